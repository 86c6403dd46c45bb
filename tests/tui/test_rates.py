"""Rates over time, out of the counts that stages tell, under a virtual clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control.state import ClusterState, Epoch, Speed
from tests.tui.scenes import INSTANCE, OLD, five_nodes
from tui.mesh.rates import FIRSTS_MAX, INSTANCES_MAX, SILENCE_S, SPANS_MAX, Rates


def counted(tokens: int, epoch: Epoch | None = None, name: str = INSTANCE) -> ClusterState:
    """The mesh when its last stage had computed so many tokens."""
    state = five_nodes()
    member = state.member(OLD)
    assert member is not None
    assert member.report is not None
    instance = replace(state.instances[0], id=name, epoch=epoch or state.instances[0].epoch)
    held = replace(member.report.stages[0], tokens=tokens, epoch=instance.epoch, instance=name)
    last = replace(member, report=replace(member.report, stages=(held,)))
    return replace(
        state,
        members=tuple(last if one.id == OLD else one for one in state.members),
        instances=(instance,),
        speeds=(),
    )


def looked(*counts: tuple[float, int]) -> Rates:
    rates = Rates()
    for at, tokens in counts:
        rates.look(counted(tokens), at)
    return rates


def test_the_rate_is_the_tokens_between_two_counts() -> None:
    rates = looked((0.0, 100), (2.0, 150))
    assert rates.now(INSTANCE, 2.0) == 25.0
    assert rates.series(INSTANCE, 2.0, 4.0, 4) == [0.0, 0.0, 25.0, 25.0]


def test_what_stands_still_falls_to_nothing() -> None:
    rates = looked((0.0, 100), (1.0, 130))
    assert rates.now(INSTANCE, 1.0 + SILENCE_S) == 30.0
    assert rates.now(INSTANCE, 1.1 + SILENCE_S) == 0.0


def test_a_pause_does_not_thin_out_what_follows() -> None:
    rates = looked((0.0, 100), (60.0, 150))
    assert rates.now(INSTANCE, 60.0) == pytest.approx(50 / SILENCE_S)
    assert rates.series(INSTANCE, 60.0, 60.0, 60)[0] == 0.0


def test_another_placement_counts_anew_and_keeps_what_was() -> None:
    rates = looked((0.0, 100), (1.0, 140))
    rates.look(counted(5, Epoch(13, OLD, 1)), 2.0)
    rates.look(counted(25, Epoch(13, OLD, 1)), 3.0)
    assert rates.series(INSTANCE, 3.0, 3.0, 3) == [40.0, 0.0, 20.0]


def test_an_engine_that_began_anew_is_no_negative_rate() -> None:
    rates = looked((0.0, 100), (1.0, 3), (2.0, 13))
    assert rates.series(INSTANCE, 2.0, 2.0, 2) == [0.0, 10.0]


def test_memory_is_bounded() -> None:
    rates = Rates()
    for at in range(SPANS_MAX + 10):
        rates.look(counted(at), float(at))
    assert len(rates._spans(INSTANCE)) == SPANS_MAX
    for number in range(INSTANCES_MAX + 5):
        rates.look(counted(1, name=f"{number:032x}"), 1e6)
    assert len(rates._counters) == INSTANCES_MAX
    for at in range(FIRSTS_MAX + 5):
        rates.answered(Speed(INSTANCE, 1.0, float(at)), float(at))
    assert rates.first_tokens(INSTANCE, 1000) == [float(at) for at in range(5, FIRSTS_MAX + 5)]
    assert rates.first_tokens(INSTANCE, 2) == [float(FIRSTS_MAX + 3), float(FIRSTS_MAX + 4)]
    assert rates.first_tokens("x", 2) == []
