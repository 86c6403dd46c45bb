"""Names that come from elsewhere, made fit to show: one rule for nodes, whoever named them."""

from __future__ import annotations

import unicodedata
from typing import Final

NAME_MAX: Final = 64
"""Characters: enough for a host name's label, short enough for one line of a table."""


def clean_name(text: str) -> str:
    """`text` without control, formatting and direction characters, single spaces, one line, cut to `NAME_MAX`."""
    visible = "".join(" " if char.isspace() else char for char in text if char.isspace() or _is_visible(char))
    return " ".join(visible.split())[:NAME_MAX].strip()


def _is_visible(char: str) -> bool:
    return not unicodedata.category(char).startswith("C")
