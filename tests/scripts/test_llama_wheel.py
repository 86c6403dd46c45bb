"""The compiled wheel: which backend, which key, made once. A stand-in package takes the place of llama.cpp."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import llama_wheel
import pytest
from llama_wheel import Backend, Recipe
from progress import SetupFailed

BUILDER = """
import os, zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    if "FAIL" in os.environ["CMAKE_ARGS"]:
        raise SystemExit("CMake Error: No CMAKE_CXX_COMPILER could be found.")
    name = "llama_cpp_python-9.9-py3-none-any.whl"
    info = "llama_cpp_python-9.9.dist-info/"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("made_with.txt", os.environ["CMAKE_ARGS"])
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: llama_cpp_python\\nVersion: 9.9\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a folder with the stand-in source package as pip's only source."""
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: 9.9\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "builder"\nbackend-path = ["."]\n',
        "builder.py": BUILDER,
    }
    with tarfile.open(tmp_path / "llama_cpp_python-9.9.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"llama_cpp_python-9.9/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", tmp_path.as_uri())
    monkeypatch.setenv("PEERINFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    return tmp_path / "cache"


def recipe(variant: str = "", *cmake_args: str) -> Recipe:
    return Recipe("9.9", Backend("cpu", "a test", cmake_args=cmake_args), variant)


def test_a_wheel_is_compiled_with_our_arguments_and_then_found(cache: Path) -> None:
    assert llama_wheel.cached(recipe()) is None
    wheel = llama_wheel.compile_wheel(recipe(), Path(sys.executable))
    assert llama_wheel.cached(recipe()) == wheel
    assert zipfile.ZipFile(wheel).read("made_with.txt") == b"-DLLAVA_BUILD=OFF"
    assert [path.name for path in (cache / "wheels").iterdir()] == [recipe().key]


def test_a_variant_is_another_wheel_and_not_an_old_one_out_of_the_cache_of_pip(cache: Path) -> None:
    plain = llama_wheel.compile_wheel(recipe(), Path(sys.executable))
    rpc = llama_wheel.compile_wheel(recipe("rpc"), Path(sys.executable))
    assert plain.parent != rpc.parent
    assert zipfile.ZipFile(rpc).read("made_with.txt") == b"-DLLAVA_BUILD=OFF -DGGML_RPC=ON"


def test_a_failed_build_names_cause_and_log_and_leaves_nothing_in_the_cache(cache: Path) -> None:
    with pytest.raises(SetupFailed, match=r"No C/C\+\+ compiler was found.*The log is .*\.log") as failure:
        llama_wheel.compile_wheel(recipe("", "-DFAIL=ON"), Path(sys.executable))
    assert "No CMAKE_CXX_COMPILER" in Path(str(failure.value).split("The log is ")[1]).read_text()
    assert list((cache / "wheels").iterdir()) == []


def test_what_a_killed_set_up_left_is_swept(cache: Path) -> None:
    (cache / "wheels" / "compiling-abc" / "wheel").mkdir(parents=True)
    llama_wheel.compile_wheel(recipe(), Path(sys.executable))
    assert [path.name for path in (cache / "wheels").iterdir()] == [recipe().key]


def test_the_callers_own_arguments_come_last_and_change_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    before = recipe().key
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_NATIVE=OFF")
    assert recipe().cmake_args == "-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF"
    assert recipe().key != before


def test_another_processor_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe().key
    monkeypatch.setattr(llama_wheel, "cpu_features", lambda: "avx1024")
    assert recipe().key != before


@pytest.mark.parametrize(
    ("found", "expected"),
    [((), "cpu"), (("_vulkan",), "vulkan"), (("_vulkan", "_cuda"), "cuda"), (("_rocm", "_vulkan"), "rocm")],
)
def test_the_first_backend_that_is_here_is_taken(
    found: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for probe in ("_metal", "_cuda", "_rocm", "_vulkan"):
        monkeypatch.setattr(llama_wheel, probe, lambda probe=probe: "it is here" if probe in found else "")
    backend = llama_wheel.detect()
    assert (backend.name, backend.guessed) == (expected, expected != "cpu")


def test_cuda_needs_the_compiler_and_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for nvcc, device, expected in ((None, True, False), ("/x/nvcc", False, False), ("/x/nvcc", True, True)):
        monkeypatch.setattr(llama_wheel, "_nvcc", lambda nvcc=nvcc: nvcc)
        monkeypatch.setattr(llama_wheel, "_nvidia_device", lambda device=device: device)
        assert bool(llama_wheel._cuda()) is expected


def test_a_forced_backend_is_not_guessed() -> None:
    backend = llama_wheel.detect("vulkan")
    assert (backend.name, backend.guessed, backend.cmake_args) == ("vulkan", False, ("-DGGML_VULKAN=ON",))
