"""peerinfer: one private inference machine out of the laptops and desktops of a home or office."""

from __future__ import annotations

__version__ = "0.1.0"
