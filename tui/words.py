"""Names, sizes, times and rates as people read them. What comes from elsewhere is made harmless here. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from rich.cells import cell_len, set_cell_size

from peerinfer.control.state import StagePlace
from peerinfer.names import clean_name

MARKS_MAX: Final = 2
"""Combining marks on one letter: as many as living languages need; more climb over the lines above."""
SENTENCE_MAX: Final = 1000
"""Characters of a sentence that the daemon tells; a peer may have had a part in it."""
DIRECTIONS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Embeddings, overrides and isolates (Unicode Annex 9); letters of right-to-left languages need none of them."""
SHORT_ID: Final = 8
"""Characters of an id that tell nodes of one home apart."""


def harmless(name: str) -> str:
    """A name from elsewhere on one line: no control, formatting or direction characters, few marks, cut to 64."""
    return clean_name(_fewer_marks(name[: 16 * SENTENCE_MAX]))


def sentence(text: str) -> str:
    """A sentence from elsewhere, on one line, without what a terminal would obey."""
    visible = "".join(letter if not unicodedata.category(letter).startswith("C") else " " for letter in text)
    return _fewer_marks(" ".join(visible.split())[:SENTENCE_MAX])


def first_sentence(text: str) -> str:
    """What happened, without the advice that follows it."""
    return re.split(r"(?<=[.!?]) ", sentence(text), maxsplit=1)[0]


def prose(text: str) -> str:
    """Text of several lines from elsewhere, such as an answer: lines and tabs stay, what a terminal obeys goes."""
    return "".join(letter for letter in text if letter in "\n\t" or not _is_obeyed(letter))


def _is_obeyed(letter: str) -> bool:
    """Control characters, halves of pairs, and those that turn the direction of what follows."""
    return unicodedata.category(letter) in {"Cc", "Cs"} or letter in DIRECTIONS


def fit(text: str, width: int) -> str:
    """`text` in at most `width` cells, with … where it was cut."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…" if width > 0 else ""


def cells(text: str) -> int:
    """How many cells of a terminal `text` takes."""
    return cell_len(text)


def name_of(name: str, node: str) -> str:
    """A node's name for people; the beginning of its id where it has none that can be shown."""
    return harmless(name) or harmless(node)[:SHORT_ID] or "?"


def size(count: float) -> str:
    """A number of bytes in powers of 1000, as `7.9 GB`."""
    for unit, digits in (("B", 0), ("kB", 0), ("MB", 0), ("GB", 1)):
        if count < 1000:
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def of_size(used: float, whole: float) -> str:
    """Two sizes in the unit of the second: `9.1/16 GB`."""
    number, _, unit = size(whole).partition(" ")
    scale = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    digits = 1 if "." in number and whole / scale < 10 else 0
    return f"{used / scale:.{digits}f}/{whole / scale:.{digits}f} {unit}"


def milliseconds(value: float) -> str:
    """A time of a token: three figures at most, as `0.35 ms`, `12.4 ms`, `1.20 s`."""
    if value >= 1000:
        return f"{value / 1000:.2f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms"


def seconds(value: float) -> str:
    """A time that a person waited: `3.1 s`, `2 min 5 s`."""
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def round_trip(microseconds: float) -> str:
    """A round trip of a link."""
    return milliseconds(microseconds / 1000)


def bandwidth(bytes_per_s: float) -> str:
    """What a link carries: `118 MB/s`."""
    return f"{size(bytes_per_s)}/s"


def percent(share: float) -> str:
    """A share, 0 … 1."""
    return f"{min(9.99, max(0.0, share)):.0%}".replace("%", " %")


def rate(tokens_per_s: float) -> str:
    """Tokens per second, as a plain number."""
    return f"{tokens_per_s:.0f}" if tokens_per_s >= 100 else f"{tokens_per_s:.1f}"


def layers(first: int, last: int) -> str:
    """A half-open range of layers: `12–20` are layers 12 to 19."""
    return f"{first}–{last}"


def stages(places: Iterable[tuple[str, StagePlace]]) -> str:
    """Who runs what: `desk 0–15, lap 15–30`."""
    return ", ".join(f"{name} {layers(place.first_layer, place.last_layer)}" for name, place in places)


def in_list(names: Iterable[str]) -> str:
    """`desk`, `desk and lap`, `desk, lap and attic`."""
    items = list(names)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "nobody"


def _fewer_marks(text: str) -> str:
    kept: list[str] = []
    marks = 0
    for letter in text:
        marks = marks + 1 if unicodedata.combining(letter) or unicodedata.category(letter) in {"Mn", "Me"} else 0
        if marks <= MARKS_MAX:
            kept.append(letter)
    return "".join(kept)
