"""A QR code as text: two modules to a cell, dark on light. Pure."""

from __future__ import annotations

from typing import Any, Final

import segno

from tui.picture.canvas import Role, Runs

_segno: Any = segno
BORDER: Final = 2
"""Light modules around it: the norm wants four, phones read it with two."""


def qr_rows(text: str) -> list[Runs]:
    """Rows of a QR code for `text`, with the least error correction, so that it fits small terminals."""
    rows: list[bytes] = [bytes(row) for row in _segno.make_qr(text, error="l").matrix_iter(border=BORDER)]
    if len(rows) % 2:
        rows.append(bytes(len(rows[0])))
    return [
        [("".join(map(_cell, upper, lower)), Role.CODE)] for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]


def _cell(upper: int, lower: int) -> str:
    return " ▄▀█"[2 * bool(upper) + bool(lower)]
