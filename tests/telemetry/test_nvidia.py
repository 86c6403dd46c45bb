"""The NVIDIA probe through the real `pynvml`, against a libnvidia-ml that is built here: what drivers answer and do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest

READ_TWICE = """
import dataclasses, json, sys
from peerinfer.telemetry.probes.nvidia import NvidiaProbe
probe, told = NvidiaProbe(), []
for _ in range(int(sys.argv[1])):
    try:
        reading = probe.read()
        told.append({"devices": [dataclasses.asdict(one) for one in reading.devices], "lacks": reading.lacks})
    except Exception as error:
        told.append({"error": type(error).__name__})
print(json.dumps(told))
"""
HANGS = """
import asyncio, time
from peerinfer.clock import monotonic
from peerinfer.telemetry.collector import Collector
from peerinfer.telemetry.probes.memory import MemoryProbe
from peerinfer.telemetry.probes.nvidia import NvidiaProbe
async def main():
    collector = Collector([NvidiaProbe(), MemoryProbe()], monotonic)
    await collector.refresh()
    print(collector.hardware.memory_bytes > 0, collector.hardware.troubles)
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the made-up library."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("there is no C compiler, or no ELF library to build, here")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(target), str(source)], check=True, timeout=60)
    return folder


def run(library: Path, mode: str, program: str, *arguments: str) -> str:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML": mode}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def read(library: Path, mode: str = "", times: int = 1) -> list[dict[str, Any]]:
    """What the probe tells in a process that finds this library, at each of some readings."""
    told: list[dict[str, Any]] = json.loads(run(library, mode, READ_TWICE, str(times)))
    return told


def test_all_values_of_several_gpus(library: Path) -> None:
    (told,) = read(library)
    assert [device["name"] for device in told["devices"]] == ["GPU one", "GPU two"]
    assert told["lacks"] == ""
    first = told["devices"][0]
    assert (first["memory_bytes"], first["memory_free_bytes"]) == (24000, 23000)
    assert (first["utilisation"], first["temperature_c"], first["power_w"]) == (0.42, 61.0, 123.4)
    assert (first["clock_mhz"], first["capability"], first["driver"]) == (1500.0, "8.9", "570.1")
    assert first["throttled"] == "too hot, at its power limit"


def test_values_that_a_gpu_does_not_have_are_missing_and_nothing_else(library: Path) -> None:
    (told,) = read(library, "laptop")
    first = told["devices"][0]
    assert (first["utilisation"], first["power_w"], first["clock_mhz"], first["throttled"]) == (None, None, None, "")
    assert (first["memory_bytes"], first["temperature_c"]) == (24000, 61.0)


def test_a_gpu_in_instances_is_told_as_these(library: Path) -> None:
    (told,) = read(library, "mig")
    assert [device["name"] for device in told["devices"]] == ["GPU 1 instance", "GPU 1 instance"]
    assert [device["memory_bytes"] for device in told["devices"]] == [5000, 5000]
    assert told["devices"][0]["utilisation"] is None
    (bare,) = read(library, "bare-mig")
    assert bare["devices"] == []
    assert "has none" in bare["lacks"]


def test_without_a_driver_there_is_nothing_to_tell_and_nothing_wrong(library: Path, tmp_path: Path) -> None:
    assert read(library, "no-driver") == [{"devices": [], "lacks": ""}]
    if find_library("nvidia-ml") is None:  # else this machine has a driver, whatever folder is looked in first
        assert read(tmp_path) == [{"devices": [], "lacks": ""}]


def test_a_driver_that_does_not_match_its_library_is_a_trouble(library: Path) -> None:
    assert read(library, "mismatch") == [{"error": "NVMLError_LibRmVersionMismatch"}]


def test_a_gpu_that_is_lost_leaves_the_others(library: Path) -> None:
    (told,) = read(library, "lost")
    assert [device["name"] for device in told["devices"]] == ["GPU one"]
    assert "GPU 1 does not answer" in told["lacks"]
    (told,) = read(library, "first-lost")
    assert [device["name"] for device in told["devices"]] == ["GPU two"]
    assert "GPU 0 does not answer" in told["lacks"]
    assert read(library, "all-lost") == [{"error": "NVMLError_GpuIsLost"}]


def test_a_gpu_that_uses_the_machines_memory_has_none_of_its_own(library: Path) -> None:
    (told,) = read(library, "shared")
    first = told["devices"][0]
    assert (first["name"], first["memory_bytes"], first["memory_free_bytes"]) == ("GPU one", 0, 0)
    assert (first["temperature_c"], told["lacks"]) == (61.0, "")


def test_a_driver_that_may_not_be_asked_is_a_trouble(library: Path) -> None:
    assert read(library, "forbidden") == [{"error": "NVMLError_NoPermission"}]


def test_a_driver_that_vanishes_is_a_trouble_until_it_is_back(library: Path) -> None:
    first, second, third = read(library, "vanish", times=3)
    assert len(first["devices"]) == len(third["devices"]) == 2
    assert second == {"error": "NVMLError_Uninitialized"}
    _, second, third, fourth = read(library, "vanish-long", times=4)
    assert second == {"error": "NVMLError_Uninitialized"}
    assert third == {"error": "NVMLError_DriverNotLoaded"}, "what was there is missed"
    assert len(fourth["devices"]) == 2


def test_a_driver_that_hangs_holds_up_neither_the_others_nor_the_end(library: Path) -> None:
    said = run(library, "hang", HANGS)
    assert said.startswith("True")
    assert "nvidia" in said
    assert "has not answered" in said
