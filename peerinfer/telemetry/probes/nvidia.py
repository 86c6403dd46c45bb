"""NVIDIA GPUs by NVML, where its Python module and driver are there; never required."""

from __future__ import annotations

import importlib
from typing import Any

from peerinfer.telemetry.facts import DeviceFacts, Reading


class NvidiaProbe:
    """One device of kind `cuda` for each GPU, with its memory."""

    name = "nvidia"
    every_s = 2.0

    def __init__(self) -> None:
        self._nvml: Any = None

    def read(self) -> Reading:
        """All GPUs; none where the module is not installed. Raises NVML's errors, such as an absent driver."""
        if self._nvml is None:
            try:
                self._nvml = importlib.import_module("pynvml")
            except ImportError:
                return Reading()
            self._nvml.nvmlInit()
        return Reading(devices=tuple(_device(self._nvml, index) for index in range(self._nvml.nvmlDeviceGetCount())))


def _device(nvml: Any, index: int) -> DeviceFacts:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name = nvml.nvmlDeviceGetName(handle)  # bytes in old versions of the module
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return DeviceFacts(
        kind="cuda",
        name=name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name),
        memory_bytes=int(memory.total),
        memory_free_bytes=int(memory.free),
    )
