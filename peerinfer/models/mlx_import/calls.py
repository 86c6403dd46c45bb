"""What the daemon and the child of an import call each other by. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CONVERT: Final = 1
"""The one call: a `Wanted`, answered by a `Converted`, with a `Progressed` now and then."""
MESSAGE_MAX_BYTES: Final = 1 << 20
"""Two paths and a name."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to convert."""

    folder: str
    file: str
    """Path of the GGUF file to write."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far a conversion is."""

    done_bytes: int
    total_bytes: int
    """Of the file that is written."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What was made."""

    architecture: str
    size_bytes: int
    loss: float
    """Root of the mean square of what all weights are off, as a share of that of the weights; 0 for an exact copy."""
