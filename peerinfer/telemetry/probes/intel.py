"""Intel graphics by what the kernel's i915 and xe drivers show."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from peerinfer.telemetry.facts import DeviceFacts, Reading
from peerinfer.telemetry.probes.sysfs import DRM_ROOT, cards, first_of, is_asleep, number, scaled, word

VENDOR: Final = 0x8086


class IntelProbe:
    """One device of kind `intel` for each card; Linux only. What an integrated one uses is the machine's memory."""

    name = "intel"
    every_s = 5.0

    def __init__(self, root: Path = DRM_ROOT) -> None:
        self._root = root

    def read(self) -> Reading:
        """All cards; none where there is no such driver."""
        return Reading(devices=tuple(_device(card) for card in cards(self._root, VENDOR)))


def _device(card: Path) -> DeviceFacts:
    sensors = card / "absent" if is_asleep(card) else card / "hwmon"
    # xe shows it, and so does Intel's own build of i915; the kernel's i915 does not
    memory = (first_of(card, "tile0/physical_vram_size_bytes"), card.parent / "lmem_total_bytes")
    clocks = (card.parent / "gt_act_freq_mhz", first_of(card, "tile0/gt0/freq0/act_freq"))
    return DeviceFacts(
        kind="intel",
        name=f"Intel graphics {word(card / 'device')}".strip(),
        memory_bytes=next((size for path in memory if (size := number(path))), 0),
        temperature_c=scaled(first_of(sensors, "hwmon*/temp2_input", "hwmon*/temp1_input"), 1e-3),
        power_w=scaled(first_of(sensors, "hwmon*/power1_input"), 1e-6),
        clock_mhz=next((clock for path in clocks if (clock := scaled(path, 1.0)) is not None), None),
    )
