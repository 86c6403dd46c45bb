"""The probes, with the machines that they would meet."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peerinfer.telemetry.probes import battery as battery_room
from peerinfer.telemetry.probes.battery import BatteryProbe
from peerinfer.telemetry.probes.memory import cgroup_limits
from peerinfer.telemetry.probes.nvidia import NvidiaProbe


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cgroup"
    path.write_text(text)
    return path


def test_a_cgroup_limit_counts_without_the_cache_that_can_be_dropped(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    stat = "anon 5\ninactive_file 30\nactive_file 9\n"
    group(root / "a" / "b", memory__max="100\n", memory__current="70\n", memory__stat=stat)
    assert cgroup_limits(own(tmp_path, "0::/a/b\n"), root) == [(100, 60)]


def test_every_group_up_to_the_root_may_limit(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root / "a", memory__max="500", memory__current="450")
    group(root / "a" / "b", memory__max="max", memory__current="10")
    assert cgroup_limits(own(tmp_path, "0::/a/b\n"), root) == [(500, 50)]


def test_inside_a_container_the_root_is_the_group(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root, memory__max="64", memory__current="80")
    assert cgroup_limits(own(tmp_path, "0::/../..\n"), root) == [(64, 0)]


def test_the_older_layout_is_read_too(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root / "memory" / "x", memory__limit_in_bytes="100", memory__usage_in_bytes="40")
    group(root / "memory", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="40")
    text = "11:cpu,cpuacct:/x\n9:memory:/x\n0::/x\n"
    assert cgroup_limits(own(tmp_path, text), root) == [(100, 60)]


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_limits(tmp_path / "absent", tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("sensor", "expected"),
    [
        (lambda: None, False),
        (lambda: SimpleNamespace(power_plugged=True), False),
        (lambda: SimpleNamespace(power_plugged=False), True),
        (lambda: SimpleNamespace(power_plugged=None), None),
        (None, None),
    ],
)
def test_battery(monkeypatch: pytest.MonkeyPatch, sensor: Any, expected: bool | None) -> None:
    fake = SimpleNamespace(sensors_battery=sensor) if sensor else SimpleNamespace()
    monkeypatch.setattr(battery_room, "_psutil", fake)
    assert BatteryProbe().read().on_battery is expected


def test_nvidia_gpus_are_told_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: [b"Old module", "New module"][handle],
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=24 * (handle + 1), free=20),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    devices = NvidiaProbe().read().devices
    assert [(one.kind, one.name, one.memory_bytes) for one in devices] == [
        ("cuda", "Old module", 24),
        ("cuda", "New module", 48),
    ]


def test_without_the_nvidia_module_there_is_no_gpu_and_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert NvidiaProbe().read().devices == ()
