"""What the daemon and its native children call each other by; a file of its own, so that no daemon loads llama.cpp."""

from __future__ import annotations

import struct
from typing import Final

LOAD: Final = 1
STEP: Final = 2
FACTS: Final = 3
CALIBRATE: Final = 4
ABILITY: Final = 5
"""Calls to a stage: see `worker.py`."""

TIMES: Final = struct.Struct("<III")
"""Microseconds that begin a step's answer: whole step, engine, sampling."""

OPEN: Final = 1
ENCODE: Final = 2
CHAT: Final = 3
"""Calls to a tokenizer: see `tokenizer.py`."""
