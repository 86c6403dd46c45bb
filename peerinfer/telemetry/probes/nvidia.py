"""NVIDIA GPUs by NVML, where its Python module and driver are there; never required.

A GPU may know some of its values only (laptops, MIG, old drivers): then just those are missing. Without a driver there
is nothing to tell and nothing wrong; a driver that vanishes is a trouble until it is back.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from peerinfer.telemetry.facts import DeviceFacts, Reading

T = TypeVar("T")

GPUS_MAX: Final = 16
"""GPUs and their instances that are told."""
ABSENT: Final = ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded")
"""What a machine without NVIDIA GPUs answers."""
GONE: Final = (
    "NVMLError_Uninitialized",
    "NVMLError_GpuIsLost",
    "NVMLError_DriverNotLoaded",
    "NVMLError_LibRmVersionMismatch",
    "NVMLError_ResetRequired",
    "NVMLError_Unknown",
)
"""What a driver answers that went away, or was replaced, while we ran."""
MIG_ON: Final = 1

REASONS: Final = (
    ("nvmlClocksThrottleReasonHwThermalSlowdown", "too hot"),
    ("nvmlClocksThrottleReasonSwThermalSlowdown", "hot"),
    ("nvmlClocksThrottleReasonHwPowerBrakeSlowdown", "short of power"),
    ("nvmlClocksThrottleReasonSwPowerCap", "at its power limit"),
    ("nvmlClocksThrottleReasonApplicationsClocksSetting", "clocks set by somebody"),
)
"""Names of NVML's bits, and what they mean to a person; idling is none of them."""


class NvidiaProbe:
    """One device of kind `cuda` for each GPU, or for each instance of one that is cut into some (MIG)."""

    name = "nvidia"
    every_s = 2.0

    def __init__(self) -> None:
        self._nvml: Any = None
        self._was_there = False

    def read(self) -> Reading:
        """All GPUs; none where there is no module or driver. Raises NVML's error if the driver went away."""
        nvml = self._nvml or self._opened()
        if nvml is None:
            return Reading()
        try:
            return _all(nvml)
        except nvml.NVMLError:
            self._nvml = None
            _ask(nvml, nvml.nvmlShutdown)
            raise

    def _opened(self) -> Any:
        try:
            nvml: Any = importlib.import_module("pynvml")
        except ImportError:
            return None
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            if type(error).__name__ in ABSENT and not self._was_there:
                return None
            raise
        self._nvml, self._was_there = nvml, True
        return nvml


def _all(nvml: Any) -> Reading:
    driver = _text(_ask(nvml, nvml.nvmlSystemGetDriverVersion))
    devices: list[DeviceFacts] = []
    lacks: list[str] = []
    gone: Any = None
    for index in range(min(GPUS_MAX, nvml.nvmlDeviceGetCount())):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            mode = _ask(nvml, lambda handle=handle: nvml.nvmlDeviceGetMigMode(handle))
            instances = _instances(nvml, handle) if mode is not None and mode[0] == MIG_ON else None
            if instances == []:
                lacks.append(f"GPU {index} is set to be cut into instances, but has none.")
            for each in [handle] if instances is None else instances:
                devices.append(_device(nvml, each, handle, driver))
        except nvml.NVMLError as error:
            gone = error if type(error).__name__ in GONE else gone
            lacks.append(f"GPU {index} does not answer: {error}.")
    if gone is not None and not devices:  # one that is lost leaves the others, whichever it is
        raise gone
    return Reading(devices=tuple(devices[:GPUS_MAX]), lacks=" ".join(lacks))


def _instances(nvml: Any, handle: Any) -> list[Any]:
    """The handles of a GPU's instances."""
    most = _ask(nvml, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0
    asked = (_ask(nvml, lambda at=at: nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, at)) for at in range(most))
    return [instance for instance in asked if instance is not None]


def _device(nvml: Any, handle: Any, gpu: Any, driver: str) -> DeviceFacts:
    """`handle` is the GPU itself or an instance of it, which has a memory of its own and little else."""
    memory = _memory(nvml, handle)
    use = _ask(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    heat = _ask(nvml, lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU))
    milliwatts = _ask(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(gpu))
    clock = _ask(nvml, lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM))
    capability = _ask(nvml, lambda: nvml.nvmlDeviceGetCudaComputeCapability(gpu))
    bits = _ask(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)) or 0
    return DeviceFacts(
        kind="cuda",
        name=_text(_ask(nvml, lambda: nvml.nvmlDeviceGetName(handle))) or "NVIDIA GPU",
        memory_bytes=memory[0],
        memory_free_bytes=memory[1],
        utilisation=None if use is None else min(1.0, use.gpu / 100),
        temperature_c=None if heat is None else float(heat),
        power_w=None if milliwatts is None else milliwatts / 1000,
        clock_mhz=None if clock is None else float(clock),
        throttled=", ".join(words for name, words in REASONS if bits & getattr(nvml, name, 0)),
        capability="" if capability is None else f"{capability[0]}.{capability[1]}",
        driver=driver,
    )


def _memory(nvml: Any, handle: Any) -> tuple[int, int]:
    """(total, free) bytes; zeros for a GPU that uses the machine's memory, as in a Grace Blackwell desktop."""
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError as error:
        if type(error).__name__ == "NVMLError_NotSupported":
            return 0, 0
        raise
    return int(memory.total), int(memory.free)


def _ask(nvml: Any, question: Callable[[], T]) -> T | None:
    """The answer; None where this GPU or driver has none. Raises what says that the driver is gone."""
    try:
        return question()
    except nvml.NVMLError as error:
        if type(error).__name__ in GONE[:2]:
            raise
        return None


def _text(value: str | bytes | None) -> str:
    """Bytes in old versions of the module."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
