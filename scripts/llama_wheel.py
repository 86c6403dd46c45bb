"""Compiles llama-cpp-python once for what this machine has, and keeps the wheel outside the clone."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from progress import SetupFailed, run_logged, say

PACKAGE = "llama-cpp-python"
BACKENDS = ("metal", "cuda", "rocm", "vulkan", "cpu")
VARIANTS = {"rpc": ("-DGGML_RPC=ON",)}
"""Other builds of the same version: `rpc` is what the bench compares with, and is never installed."""

PROBE_TIMEOUT_S = 20.0
"""A vendor's tool that hangs (a driver that is half there) must not hang set-up; a cold `nvidia-smi` takes seconds."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A kind of hardware to compile for."""

    name: str
    """One of BACKENDS."""
    reason: str
    """Why this one, for the person."""
    guessed: bool = False
    """Whether a GPU was found, rather than asked for: then the CPU will do if it cannot be compiled for."""
    cmake_args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what a compiled wheel contains."""

    version: str
    backend: Backend
    variant: str = ""

    @property
    def cmake_args(self) -> str:
        """The value of CMAKE_ARGS; the caller's own arguments come last, so that they win."""
        ours = ("-DLLAVA_BUILD=OFF", *self.backend.cmake_args, *VARIANTS.get(self.variant, ()))
        return " ".join((*ours, os.environ.get("CMAKE_ARGS", ""))).strip()

    @property
    def key(self) -> str:
        """Names the wheel in the cache. It is compiled for this very processor (GGML_NATIVE), so that is part of it."""
        made_for = "\n".join((self.cmake_args, cpu_features(), gpu_features(self.backend.name), *platform.libc_ver()))
        digest = hashlib.sha256(made_for.encode()).hexdigest()[:12]
        kind = "-".join(part for part in (self.backend.name, self.variant) if part)
        return f"{self.version}-{kind}-py3-{sysconfig.get_platform()}-{digest}"

    @property
    def title(self) -> str:
        """What the person sees while it compiles."""
        kind = " ".join(part for part in (self.backend.name.upper(), self.variant) if part)
        return f"Compiling {PACKAGE} {self.version} for {kind} (minutes, once)"

    def command(self, python: Path, folder: Path) -> list[str]:
        """The command that writes the wheel into `folder`. pip's own cache is passed by: it ignores CMAKE_ARGS."""
        options = ["--no-deps", "--no-cache-dir", f"--no-binary={PACKAGE}", "-v", "-w", str(folder)]
        return [str(python), "-m", "pip", "wheel", f"{PACKAGE}=={self.version}", *options]


def cache_folder() -> Path:
    """Where compiled wheels and logs are kept: $PEERINFER_CACHE, else the platform's cache folder."""
    if chosen := os.environ.get("PEERINFER_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "peerinfer"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "peerinfer" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "peerinfer"


def cached(recipe: Recipe) -> Path | None:
    """The wheel of `recipe`, if it was compiled before."""
    return next((cache_folder() / "wheels" / recipe.key).glob("*.whl"), None)


def compile_wheel(recipe: Recipe, python: Path) -> Path:
    """Compiles `recipe` with the pip of `python` into the cache, in one step as others see it.

    The caller holds the set-up lock. Raises SetupFailed when it cannot be compiled.
    """
    home = cache_folder() / "wheels" / recipe.key
    home.parent.mkdir(parents=True, exist_ok=True)
    for left_over in home.parent.glob("compiling-*"):  # of a set-up that was killed: one runs at a time
        shutil.rmtree(left_over, ignore_errors=True)
    log = cache_folder() / "logs" / f"{PACKAGE}-{recipe.key}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f'CMAKE_ARGS="{recipe.cmake_args}"\n', encoding="utf-8")
    env = os.environ | recipe.backend.env | {"CMAKE_ARGS": recipe.cmake_args}
    env.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="compiling-") as scratch:
        made = Path(scratch) / "wheel"
        run_logged(recipe.title, recipe.command(python, made), log, env)
        if not list(made.glob("*.whl")):
            raise SetupFailed(f"{recipe.title}: pip made no wheel. The log is {log}")
        if not home.exists():
            made.rename(home)
    return next(home.glob("*.whl"))


def detect(forced: str | None = None) -> Backend:
    """The best backend whose toolkit and device are here, or the one that is `forced`."""
    if forced:
        return Backend(forced, "asked for by --force-backend", False, *_build_settings(forced))
    probes = {"metal": _metal, "cuda": _cuda, "rocm": _rocm, "vulkan": _vulkan}
    for name, probe in probes.items():
        if reason := probe():
            return Backend(name, reason, True, *_build_settings(name))
    return cpu(_why_not_gpu())


def cpu(reason: str) -> Backend:
    """The backend that every machine has."""
    return Backend("cpu", reason, False, *_build_settings("cpu"))


def cpu_features() -> str:
    """What names the instruction set of this processor, as one string."""
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    if sys.platform == "win32":
        return platform.processor()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine()
    features = {feature for line in re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.M) for feature in line.split()}
    return " ".join(sorted(features)) or platform.machine()


def gpu_features(backend: str) -> str:
    """What names the architecture of this machine's GPU to the compiler of `backend`, where it asks."""
    if backend == "cuda":
        return _output("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")
    return _output("rocm_agent_enumerator") if backend == "rocm" else ""


def _build_settings(name: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The CMake arguments and environment variables of a backend (llama.cpp, docs/build.md)."""
    if name == "metal":
        return ("-DGGML_METAL=ON",), {}
    if name == "cuda":
        nvcc = _nvcc()
        return (
            "-DGGML_CUDA=ON",
            *((f"-DCMAKE_CUDA_COMPILER={nvcc}",) if nvcc and not shutil.which("nvcc") else ()),
        ), {}
    if name == "rocm":
        clang, root = _output("hipconfig", "-l"), _output("hipconfig", "-R")
        return ("-DGGML_HIP=ON",), ({"HIPCXX": f"{clang}/clang", "HIP_PATH": root} if clang and root else {})
    if name == "vulkan":
        return ("-DGGML_VULKAN=ON",), {}
    return (("-DGGML_METAL=OFF",) if sys.platform == "darwin" else ()), {}


def _metal() -> str:
    return "Apple silicon" if sys.platform == "darwin" and platform.machine() == "arm64" else ""


def _cuda() -> str:
    nvcc = _nvcc()
    return f"an NVIDIA GPU and {nvcc}" if nvcc and _nvidia_device() else ""


def _rocm() -> str:
    hipcc = shutil.which("hipcc") or next(iter(_existing("/opt/rocm/bin/hipcc")), None)
    return f"found {hipcc}" if hipcc else ""


def _vulkan() -> str:
    sdk = os.environ.get("VULKAN_SDK", "")
    roots = ["/usr/include", "/usr/local/include", *((f"{sdk}/include", f"{sdk}/Include") if sdk else ())]
    headers = next(iter(_existing(*(f"{root}/vulkan/vulkan.h" for root in roots))), None)
    glslc = shutil.which("glslc")
    return f"found {glslc} and {headers}" if glslc and headers else ""


def _why_not_gpu() -> str:
    if _nvidia_device():
        return (
            "there is an NVIDIA GPU, but no CUDA toolkit (nvcc): install it and run scripts/setup --force-backend cuda"
        )
    if _nvcc():
        return "nvcc is here, but no NVIDIA GPU or driver"
    return "no toolkit for Metal, CUDA, ROCm or Vulkan was found"


def _nvcc() -> str | None:
    homes = (os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH"))
    places = [f"{home}/bin/nvcc{suffix}" for home in (*homes, "/usr/local/cuda") if home for suffix in ("", ".exe")]
    return shutil.which("nvcc") or next(iter(_existing(*places)), None)


def _nvidia_device() -> bool:
    return bool(_existing("/dev/nvidia0", "/proc/driver/nvidia/version")) or "GPU" in _output("nvidia-smi", "-L")


def _existing(*paths: str) -> list[str]:
    return [path for path in paths if Path(path).exists()]


def _output(*command: str) -> str:
    """What a vendor's tool prints, or nothing where it is missing or fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def announce(recipe: Recipe) -> None:
    """Says which backend is taken, and why, in one line."""
    say(f"llama.cpp backend: {recipe.backend.name.upper()} ({recipe.backend.reason}).")
