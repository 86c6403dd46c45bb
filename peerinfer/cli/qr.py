"""QR codes in a terminal: the link of an invitation, for a phone or another machine's camera."""

from __future__ import annotations

import io
from typing import Any

import segno

_segno: Any = segno


def qr_text(uri: str) -> str:
    """A QR code for a terminal: two modules per character, drawn with block characters."""
    out = io.StringIO()
    _segno.make_qr(uri, error="m").terminal(out, border=2, compact=True)
    return out.getvalue()
