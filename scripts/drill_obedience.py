"""Reads the daemons' logs: which commands each obeyed and refused, and whether anybody obeyed two leaders."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LINE: Final = re.compile(r"(Obeyed|Refused) a (?:load|drop): ballot (\d+) of ([0-9a-f]{32}), version (\d+)\.")
"""What `control/service.py` writes for each command."""

Mark = tuple[int, str, int]
"""Ballot's counter and node, and the version: the order that a worker holds to over its whole life."""


@dataclass(frozen=True, slots=True)
class Obedience:
    """The commands in one log, in order."""

    commands: tuple[tuple[bool, Mark], ...]
    """Whether each was obeyed, and its mark."""

    @classmethod
    def read(cls, lines: Iterable[str]) -> Obedience:
        """The commands in the lines of a log."""
        found = (match for line in lines if (match := LINE.search(line)))
        return cls(tuple((each[1] == "Obeyed", (int(each[2]), each[3], int(each[4]))) for each in found))

    @property
    def obeyed(self) -> int:
        """How many were obeyed."""
        return sum(is_obeyed for is_obeyed, _ in self.commands)

    @property
    def refused(self) -> int:
        """How many were refused."""
        return len(self.commands) - self.obeyed

    def faults(self) -> list[str]:
        """What may not be: obedience that goes back, and commands that were obeyed after they had been refused."""
        faults: list[str] = []
        highest: Mark = (0, "", 0)
        refused: set[Mark] = set()
        for is_obeyed, mark in self.commands:
            if not is_obeyed:
                refused.add(mark)
            elif mark in refused:
                faults.append(f"obeyed {mark}, which it had refused")
            elif mark <= highest:
                faults.append(f"obeyed {mark} after {highest}")
            highest = max(highest, mark) if is_obeyed else highest
        return faults
