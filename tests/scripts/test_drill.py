"""The drills' pure parts: what a log says of obedience, and when hosts agree on a leader."""

from __future__ import annotations

import pytest
from drill_figures import Figures, common_leader
from drill_obedience import Obedience

from peerinfer.api.replies import JsonObject

ONE, TWO = "1" * 32, "2" * 32


def line(verb: str, counter: int, node: str, version: int, what: str = "load") -> str:
    return f"12:00:01 INFO peerinfer.control.service: {verb} a {what}: ballot {counter} of {node}, version {version}."


def faults(*lines: str) -> list[str]:
    return Obedience.read(lines).faults()


def test_obedience_that_goes_on_is_right() -> None:
    log = Obedience.read(
        [
            "This node slept or stood still for 60.0 s.",
            line("Obeyed", 5, ONE, 7),
            line("Refused", 5, ONE, 7),
            line("Refused", 4, TWO, 9),
            line("Obeyed", 5, ONE, 8, "drop"),
            line("Obeyed", 5, TWO, 1),
            line("Obeyed", 6, ONE, 1),
        ]
    )
    assert (log.obeyed, log.refused) == (4, 2)
    assert log.faults() == []


@pytest.mark.parametrize("back", [(6, ONE, 9), (7, ONE, 9), (7, TWO, 3)])
def test_obedience_that_goes_back_is_found(back: tuple[int, str, int]) -> None:
    (fault,) = faults(line("Obeyed", 7, TWO, 4), line("Obeyed", *back))
    assert "after" in fault


def test_a_command_obeyed_twice_is_found() -> None:
    assert len(faults(line("Obeyed", 7, TWO, 4), line("Obeyed", 7, TWO, 4))) == 1


def test_a_command_that_is_obeyed_after_it_was_refused_is_found() -> None:
    (fault,) = faults(line("Refused", 7, TWO, 4), line("Obeyed", 7, TWO, 4))
    assert "refused" in fault


def state(leader: str | None, counter: int) -> JsonObject:
    return {"mesh": {"leader": leader, "ballot": {"counter": counter, "node": leader}}}


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([state(ONE, 3), state(ONE, 3)], ONE),
        ([state(ONE, 3), state(TWO, 3)], ""),
        ([state(ONE, 3), state(ONE, 4)], ""),
        ([state(None, 0), state(None, 0)], ""),
        ([], ""),
    ],
)
def test_hosts_agree_on_one_leader_under_one_ballot(states: list[JsonObject], expected: str) -> None:
    assert common_leader(states) == expected


def test_a_figure_that_does_not_hold_is_a_failure() -> None:
    said: list[str] = []
    figures = Figures(said.append)
    figures.spread("lead again, s", [1.0, 2.0, 9.0], bar_s=8.0)
    figures.spread("lead again by SIGTERM, s", [0.2], bar_s=1.0)
    figures.spread("never tried, s", [], bar_s=1.0)
    assert [failure.partition(",")[0] for failure in figures.failed] == ["lead again", "never tried"]
    assert said[0].startswith("✗ lead again, s: median 2.00, max 9.00 of 3")
