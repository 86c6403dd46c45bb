"""What people see: sentences and progress on stderr, results and tables on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final

SHORT_ID = 8
"""Characters of an id that are enough to tell nodes of one home apart."""
ENDED_WITH: Final = "peerinfer: "
"""Begins the sentence that a verb failed with."""


def note(sentence: str) -> None:
    """Tells something that is not the result."""
    print(sentence, file=sys.stderr, flush=True)


def result(text: str) -> None:
    """Prints a result for a person."""
    print(text, flush=True)


def result_json(body: object) -> None:
    """Prints the one JSON object of `--json`."""
    print(json.dumps(body, ensure_ascii=False), flush=True)


def size(count: float) -> str:
    """A number of bytes as people say it, in powers of 1000: `98 MB`, `7.9 GB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
    return "\n".join(line.rstrip() for line in lines)


def names_of(status: Mapping[str, Any]) -> dict[str, str]:
    """Names of the members of a mesh by id, from the object of `status`."""
    return {member["id"]: member["name"] or member["id"][:SHORT_ID] for member in status["members"]}


def stages_text(stages: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    """Who holds which layers: `desk 0-15, lap 15-30`."""
    held = ((stage["node"], stage["layers"]) for stage in stages)
    return ", ".join(f"{names.get(node, node[:SHORT_ID])} {first}-{end}" for node, (first, end) in held)


class ProgressLine:
    """Progress on stderr: one line that is rewritten on a terminal, a new line for each new sentence elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = ""

    def show(self, text: str, share: float | None = None) -> None:
        """Replaces what was shown last."""
        if not self._live:
            if text != self._shown:
                note(text)
            self._shown = text
            return
        line = text if share is None else f"{text} {share:4.0%}"
        print(f"\r{line.ljust(len(self._shown))}", end="", file=sys.stderr, flush=True)
        self._shown = line

    def end(self) -> None:
        """Leaves the line, so that what follows starts on a new one."""
        if self._live and self._shown:
            print(file=sys.stderr, flush=True)
        self._shown = ""

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
