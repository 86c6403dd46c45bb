"""AMD graphics by what the kernel's amdgpu driver shows (kernel documentation, gpu/amdgpu/driver-misc)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from peerinfer.telemetry.facts import DeviceFacts, Reading
from peerinfer.telemetry.probes.sysfs import DRM_ROOT, cards, first_of, is_asleep, number, scaled, word

VENDOR: Final = 0x1002
DRIVER_VERSION: Final = Path("/sys/module/amdgpu/version")
ROCM_VERSION: Final = Path("/opt/rocm/.info/version")


class AmdProbe:
    """One device of kind `rocm` for each card; Linux only, Windows does not say without AMD's own library."""

    name = "amd"
    every_s = 2.0

    def __init__(self, root: Path = DRM_ROOT, driver: Path = DRIVER_VERSION, rocm: Path = ROCM_VERSION) -> None:
        self._root = root
        self._driver = driver
        self._rocm = rocm

    def read(self) -> Reading:
        """All cards; none where there is no such driver."""
        driver = word(self._driver)
        rocm = word(self._rocm)
        capability = f"ROCm {rocm}" if rocm else ""
        return Reading(devices=tuple(_device(card, driver, capability) for card in cards(self._root, VENDOR)))


def _device(card: Path, driver: str, capability: str) -> DeviceFacts:
    total = number(card / "mem_info_vram_total") or 0
    used = number(card / "mem_info_vram_used") or 0
    awake = not is_asleep(card)
    busy = number(card / "gpu_busy_percent") if awake else None
    sensors = card / "hwmon" if awake else card / "absent"
    return DeviceFacts(
        kind="rocm",
        name=word(card / "product_name") or f"AMD graphics {word(card / 'device')}".strip(),
        memory_bytes=total,
        memory_free_bytes=max(0, total - used),
        utilisation=None if busy is None else busy / 100,
        temperature_c=scaled(first_of(sensors, "hwmon*/temp1_input"), 1e-3),
        power_w=scaled(first_of(sensors, "hwmon*/power1_average", "hwmon*/power1_input"), 1e-6),
        clock_mhz=scaled(first_of(sensors, "hwmon*/freq1_input"), 1e-6),
        capability=capability,
        driver=driver,
    )
