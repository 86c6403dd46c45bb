"""Moves as a leader makes them: what was tried waits, what must be left does not, what pays is moved."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.control import moves as module
from peerinfer.control.messages import UnloadRequest
from peerinfer.control.moves import AGAIN_S, BETTERED_S, GAIN, HORIZON_S, PAUSE_S, ROUND_S, ROUNDS, Weighed
from peerinfer.control.state import InstanceState
from peerinfer.errors import NoPlacement, UnknownModel
from peerinfer.gossip.snapshot import LinkFigure, OwnerPolicy
from peerinfer.placement.problem import Problem
from tests.control.cluster import GB, MODEL
from tests.control.led import LOAD, A, B
from tests.control.tended import Tended, runs

C = "c" * 32
EXCLUDED = OwnerPolicy(exclude=True)
SOON_S = ROUND_S * ROUNDS
SPLIT = replace(LOAD, min_nodes=2)
"""What no rule answers: the solver is asked."""


def loaded(told: dict[str, Any], **changes: Any) -> Tended:
    """The model stands on A alone, ready at second 30 or so: all others keep out until then."""
    house = Tended({node: each if node == A else replace(each, policy=EXCLUDED) for node, each in told.items()})
    house.ask(replace(LOAD, **changes))
    house.run(house.load_s + 5)
    assert house.leader.instances[0].state is InstanceState.READY
    for node, each in told.items():
        house.told[node] = each
    return house


def moves(house: Tended) -> list[tuple[float, str]]:
    return house.epochs[1:]


def test_a_move_to_be_better_that_failed_is_not_tried_again_for_ten_minutes() -> None:
    house = loaded({A: runs(3000), B: runs(500)})
    house.failing = {B}
    house.run(1500)
    times = [at for at, nodes in moves(house) if nodes == "b"]
    assert len(times) >= 2
    assert all(later - earlier >= BETTERED_S for earlier, later in itertools.pairwise(times))
    (stands,) = house.leader.instances
    assert (stands.state, stands.epoch) == (InstanceState.READY, house.commanded[0][1].epoch)


def test_what_was_bettered_is_not_bettered_again_for_ten_minutes_whatever_is_measured() -> None:
    house = loaded({A: runs(3000), B: runs(500)})
    for _ in range(40):  # the quicker machine is always the other one
        stands = house.leader.instances[-1].stages[0].node
        house.told[A], house.told[B] = (runs(3000), runs(300)) if stands == A else (runs(300), runs(3000))
        house.run(60)
    times = [at for at, _ in moves(house)]
    assert len(times) >= 3
    assert all(later - earlier >= BETTERED_S for earlier, later in itertools.pairwise(times))


def test_what_was_just_moved_is_left_at_once_where_its_node_is_about_to_go() -> None:
    house = loaded({A: runs(3000), B: runs(500)})
    house.run(PAUSE_S + SOON_S)
    assert [nodes for _, nodes in moves(house)] == ["b"]
    house.run(house.load_s)
    told_at = house.now
    house.tell(B, lid_closed=True, on_battery=True)
    house.run(30)
    ((_, _), (at, nodes)) = moves(house)
    assert nodes == "a"
    assert at - told_at <= 10 + ROUND_S + 1, "as soon as the old epoch has drained, which is dropped after 10 s"


@pytest.mark.parametrize(
    ("changes", "pause_s"),
    [
        ({"lid_closed": True, "on_battery": True}, AGAIN_S),
        ({"thermal": "critical"}, AGAIN_S),
        ({"policy": EXCLUDED}, PAUSE_S),
        ({"memory_free_bytes": GB // 8}, PAUSE_S),
    ],
)
def test_where_a_node_must_be_left_a_failed_move_is_tried_again_after_a_while(
    changes: dict[str, Any], pause_s: float
) -> None:
    house = loaded({A: runs(500), B: runs(500)})
    house.failing = {B}
    house.tell(A, **changes)
    house.run(pause_s * 4)
    times = [at for at, _ in moves(house)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps
    assert all(max(pause_s, house.load_s) <= gap <= max(pause_s, house.load_s) + ROUND_S * 2 for gap in gaps)
    assert house.leader.instances[0].stages[0].node == A, "it serves meanwhile"


def test_a_reason_must_last_three_rounds_unless_not_a_moment_is_to_be_lost() -> None:
    house = loaded({A: runs(500), B: runs(500)})
    for _ in range(6):
        house.tell(A, policy=EXCLUDED)
        house.run(ROUND_S)
        house.tell(A, policy=OwnerPolicy())
        house.run(ROUND_S * 2)
    assert moves(house) == []
    house.tell(A, policy=EXCLUDED)
    told_at = house.now
    house.run(60)
    ((at, nodes),) = moves(house)
    assert (nodes, ROUND_S * (ROUNDS - 1) <= at - told_at <= ROUND_S * ROUNDS) == ("b", True)


def test_a_move_that_costs_more_than_the_use_repays_waits_until_there_is_use() -> None:
    slow_link = (LinkFigure(A, 1000.0, 5e6),)  # 3 GB take ten minutes
    nothing = replace(runs(2000), models=(replace(MODEL, tensors=10, held=((0, 1),)),), links=slow_link)
    house = loaded({A: runs(3000), B: nothing})
    house.run(600)
    assert moves(house) == [], "2000 tokens that each take 30 ms less repay a minute"
    for _ in range(12):
        for at, one in house.commanded:
            house.tokens[one.epoch] = house.tokens.get(one.epoch, 0) + (600 if at else 0)
        house.run(ROUND_S * 2)
    assert [nodes for _, nodes in moves(house)] == ["b"], "60 tokens/s over an hour repay it"


def test_the_use_of_an_epoch_is_counted_from_its_own_tokens() -> None:
    """An epoch that counts from nothing again is not taken for one that nobody uses, nor its tokens added twice."""
    house = loaded({A: runs(3000), B: runs(500)})
    house.tokens[house.commanded[0][1].epoch] = 10**9
    house.run(PAUSE_S + SOON_S + house.load_s + 20)
    assert [nodes for _, nodes in moves(house)] == ["b"]
    watch = next(iter(house.leader._moves._watched.values()))
    assert all(tokens == 0 for _, tokens in watch.tokens)


def test_only_what_is_wanted_as_it_stands_is_looked_at() -> None:
    fixed = {"stages": ((A, 0, 30),)}
    house = loaded({A: runs(3000), B: runs(500)}, **fixed)
    house.run(600)
    assert moves(house) == [], "a person named the nodes"
    house = loaded({A: runs(3000), B: runs(500)})
    house.run(PAUSE_S + SOON_S)
    assert len(moves(house)) == 1
    house.ask(UnloadRequest("u1", "tiny"))
    house.run(60)
    assert (house.leader.instances, len(moves(house))) == ((), 1), "unloaded in the middle of its move"
    assert house.leader._moves._watched == {}, "what nobody wants is not remembered"


def test_a_model_asked_for_on_two_nodes_gets_the_second_one_when_it_comes() -> None:
    house = Tended({A: runs(500), B: replace(runs(500), policy=EXCLUDED)})
    house.ask(LOAD)
    house.run(30)
    house.ask(replace(LOAD, request_id="r2", min_nodes=2))
    assert house.replies[-1].code == "no_placement"
    house = Tended({A: runs(500), B: runs(500)})
    house.ask(replace(LOAD, min_nodes=2))
    house.run(30)
    assert {len(nodes) for _, nodes in house.epochs} == {2}
    house.tell(B, policy=EXCLUDED)
    house.run(60)
    assert [nodes for _, nodes in moves(house)] == ["a"], "fewer nodes will do where one must be left"
    house.tell(B, policy=OwnerPolicy())
    house.run(PAUSE_S + SOON_S)
    assert [sorted(nodes) for _, nodes in moves(house)] == [["a"], ["a", "b"]]
    (first, second) = [at for at, _ in moves(house)]
    assert second - first >= PAUSE_S, "an owner who comes and goes moves it no more often"


def test_while_the_solver_is_asked_of_a_move_the_model_serves() -> None:
    def never(_: Problem) -> None:
        raise AssertionError

    house = loaded({A: runs(3000), B: runs(500), C: runs(700)})
    house.solve = None
    house.run(PAUSE_S + SOON_S + 60)
    assert [nodes for _, nodes in moves(house)] == ["b"], "when patience ends, the quick plan stands"
    house = loaded({A: runs(500), B: runs(501)})
    house.asked.clear()
    house.solve = never
    house.run(600)
    assert house.asked == [], "a mesh at rest asks nobody"


times_us = st.floats(0, 1e9)


@given(times_us, times_us, st.floats(0, 1e6), st.floats(0, 1e9))
def test_what_pays_saves_a_fifth_and_more_than_it_costs_and_still_does_when_it_costs_less_or_is_used_more(
    now_us: float, then_us: float, cost_s: float, tokens: float
) -> None:
    weighed = Weighed(now_us, then_us, cost_s, tokens)
    if weighed.pays:
        assert then_us <= (1 - GAIN) * now_us * (1 + 1e-9)
        assert (now_us - then_us) * tokens > cost_s * 1e6 * (1 - 1e-9)
        assert replace(weighed, cost_s=cost_s / 2).pays
        assert replace(weighed, tokens=tokens * 2).pays
        assert replace(weighed, then_us=then_us / 2).pays
        assert not Weighed(then_us, now_us, 0.0, HORIZON_S).pays, "there and back again"
    else:
        assert not replace(weighed, cost_s=cost_s + 1).pays


def test_a_memory_that_runs_full_pauses_the_model_where_there_is_no_room_for_both() -> None:
    """It drains first, is placed again when it is gone, and whoever asks meanwhile waits for that."""
    tight = replace(runs(500), memory_bytes=3 * GB, memory_free_bytes=3 * GB)
    house = Tended({A: tight, B: tight})
    house.ask(LOAD)
    house.run(30)
    assert [len(nodes) for _, nodes in house.epochs] == [2]
    house.tell(A, memory_free_bytes=GB // 20)
    house.tell(B, memory_bytes=5 * GB, memory_free_bytes=5 * GB)  # but not for both: half of it is there already
    house.run(SOON_S + 1)
    (draining,) = house.leader.instances
    assert draining.state is InstanceState.DRAINING
    assert "moves when its answers have ended" in draining.reason
    assert house.ask(replace(LOAD, request_id="chat", min_nodes=0), B) == []
    house.run(60)
    assert [nodes for _, nodes in moves(house)] == ["b"]
    assert [reply.code for reply in house.replies if reply.request_id == "chat"] == [""]


@pytest.mark.parametrize("name", ["tiny", MODEL.digest])
def test_an_unload_calls_off_a_load_that_waits_for_a_plan(name: str) -> None:
    house = Tended({A: runs(3000), B: runs(500)}, solve=None)
    assert house.ask(SPLIT) == []
    told = house.ask(UnloadRequest("u1", name), node=B)
    assert [(reply.request_id, reply.code) for reply in told] == [("r1", NoPlacement.code), ("u1", "")]
    assert told[0].reason == "tiny was unloaded while it was loading."
    house.run(60)
    assert (house.commanded, house.leader.instances) == ([], ())
    house.ask(SPLIT)  # the same request once more: it was answered
    house.run(60)
    assert house.commanded == []


def test_an_unload_leaves_loads_of_other_models_waiting() -> None:
    house = Tended({A: runs(3000), B: runs(500)}, solve=None)
    house.ask(SPLIT)
    (refused,) = house.ask(UnloadRequest("u1", "another"))
    assert refused.code == UnknownModel.code
    house.run(house.load_s + 10)
    assert [instance.state for instance in house.leader.instances] == [InstanceState.READY]


def test_only_so_many_wishes_are_watched_and_the_others_serve_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCHED_MAX", 0)
    house = loaded({A: runs(3000), B: runs(500)})
    house.run(600)
    assert (moves(house), house.leader._moves._watched) == ([], {})
    assert house.leader.instances[0].state is InstanceState.READY


def test_an_owner_who_wants_back_what_was_just_moved_to_him_waits_no_two_minutes() -> None:
    house = loaded({A: runs(3000), B: runs(500)})
    house.run(PAUSE_S + SOON_S)
    ((moved_at, nodes),) = moves(house)
    house.run(house.load_s)
    house.tell(B, policy=EXCLUDED)
    house.run(PAUSE_S)
    (_, (left_at, back)) = moves(house)
    assert (nodes, back) == ("b", "a")
    assert left_at - moved_at < PAUSE_S, "only what failed waits"


def test_a_stage_changes_its_engine_where_the_owner_changes_his_mind() -> None:
    both = replace(runs(500), engines=("mlx", "llama.cpp"), models=(replace(MODEL, mlx_layer_bytes=MODEL.layer_bytes),))
    house = loaded({A: both})
    assert house.leader.instances[0].stages[0].engine == "mlx"
    house.tell(A, engines=("llama.cpp",))
    told_at = house.now
    house.run(SOON_S + ROUND_S + house.load_s + 15)
    (stands,) = house.leader.instances
    assert (stands.stages[0].node, stands.stages[0].engine) == (A, "llama.cpp")
    ((at, nodes),) = moves(house)
    assert nodes == "a"
    assert at - told_at <= SOON_S + ROUND_S
