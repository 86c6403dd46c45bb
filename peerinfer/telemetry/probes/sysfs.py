"""Numbers and words in the folders in which Linux shows its devices; whatever is missing or odd is not known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

DRM_ROOT: Final = Path("/sys/class/drm")
_CARD = re.compile(r"card\d{1,3}")


def word(path: Path) -> str:
    """The text of a small file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:4096].strip()
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """The whole number in a file, decimal or 0x…; None if there is none."""
    try:
        return int(word(path), 0)
    except ValueError:
        return None


def scaled(path: Path, unit: float) -> float | None:
    """The number in a file times its unit, such as 1e-3 for millidegrees."""
    value = number(path)
    return None if value is None else value * unit


def first_of(folder: Path, *patterns: str) -> Path:
    """The first file that matches; one that is not there if none does."""
    found = (path for pattern in patterns for path in sorted(folder.glob(pattern)))
    return next(found, folder / "absent")


def is_asleep(device: Path) -> bool:
    """Whether a device was put to sleep to save power: reading its sensors would wake it, each time anew."""
    return word(device / "power" / "runtime_status") == "suspended"


def cards(root: Path, vendor: int) -> list[Path]:
    """The device folders of all graphics cards of a PCI vendor."""
    try:
        names = sorted(path for path in root.iterdir() if _CARD.fullmatch(path.name))
    except OSError:
        return []
    return [card / "device" for card in names if number(card / "device" / "vendor") == vendor]
