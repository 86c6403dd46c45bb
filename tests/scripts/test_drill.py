"""The drills' pure parts: what a log says of obedience, and when hosts agree on a leader."""

from __future__ import annotations

import pytest
from drill_figures import Figures, Steady, common_instance, common_leader
from drill_leader_steps import turns
from drill_meshes import holders, is_split_over
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


def test_a_figure_tells_its_bar_only_if_it_has_one() -> None:
    said: list[str] = []
    figures = Figures(said.append)
    figures.spread("serve, s", [13.0, 12.0])
    figures.spread("lead, s", [1.0], bar_s=8.0)
    figures.spread("lead late, s", [9.0], bar_s=8.0)
    assert said == [
        "  serve, s: median 12.50, max 13.00 of 2",
        "  lead, s: median 1.00, max 1.00 of 1 (bar 8 s: held)",
        "✗ lead late, s: median 9.00, max 9.00 of 1 (bar 8 s: not held)",
    ]


def test_who_agrees_again_is_counted_from_the_second_time() -> None:
    steady = Steady()
    noted = [steady.note(*each) for each in [("", 10.0), (ONE, 11.0), (ONE, 14.0), ("", 15.0), ("", 30.0), (ONE, 31.0)]]
    assert noted == [-1.0, 0.0, 3.0, -1.0, -1.0, 0.0]
    assert steady.note(TWO, 32.0) == 0.0
    assert (steady.note(TWO, 38.0), steady.since) == (6.0, 32.0)


def instance(number: str, counter: int, condition: str = "ready", nodes: tuple[str, ...] = (ONE,)) -> JsonObject:
    stages = [{"node": node} for node in nodes]
    return {"id": number, "epoch": [counter, ONE, 1], "state": condition, "stages": stages}


def holding(*instances: JsonObject) -> JsonObject:
    return {"instances": list(instances)}


@pytest.mark.parametrize(
    ("states", "is_common"),
    [
        ([holding(instance("a", 3)), holding(instance("a", 3))], True),
        ([holding(instance("a", 3)), holding(instance("a", 4))], False),
        ([holding(instance("a", 3)), holding(instance("a", 3), instance("a", 4, "draining"))], False),
        ([holding(instance("a", 3, "loading")), holding(instance("a", 3, "loading"))], False),
        ([holding(), holding()], False),
    ],
)
def test_halves_are_one_again_when_all_have_the_same_instance_ready(states: list[JsonObject], is_common: bool) -> None:
    assert bool(common_instance(states)) is is_common


def test_who_holds_the_one_ready_instance() -> None:
    whole = holding(instance("a", 3, nodes=(ONE, TWO)))
    assert holders(whole) == {ONE, TWO}
    assert is_split_over(2)(whole)
    assert holders(holding(instance("a", 3), instance("b", 4))) == set()
    drains = holding(instance("a", 3, nodes=(ONE, TWO)), instance("b", 4, "draining"))
    assert holders(drains) == {ONE, TWO}
    assert not is_split_over(2)(drains)


@pytest.mark.parametrize("pairs", [2, 5])
@pytest.mark.parametrize("repeat", [1, 2, 3, 5, 7, 10])
def test_leaders_and_followers_stop_often_enough_but_no_oftener(repeat: int, pairs: int) -> None:
    def fewest(count: int) -> int:
        stops = [(turn + place) % 2 for turn in range(count) for place in range(pairs)]
        return min(stops.count(0), stops.count(1))

    count = turns(repeat, pairs)
    assert fewest(count) >= repeat > fewest(count - 1)
