"""Text that is shown as it is: nothing in it is markup."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static


def words(text: str, *, id: str | None = None, classes: str | None = None) -> Static:
    """Plain text, whatever is in it."""
    return Static(Content(text), id=id, classes=classes, markup=False)
