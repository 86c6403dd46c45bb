"""`status` says why a model that is ready stands otherwise than it was asked for, as long as it does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peerinfer.control.effects import Broadcast
from peerinfer.control.messages import Instances
from peerinfer.control.moves import AGAIN_S, PAUSE_S, ROUND_S, ROUNDS
from peerinfer.control.placed import Placed
from peerinfer.control.state import InstanceState
from peerinfer.control.staying import ABSENT_MAX, why_otherwise
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import OwnerPolicy
from tests.control.cluster import GB
from tests.control.led import LOAD, A, B, instance, members
from tests.control.tended import Tended, runs

EXCLUDED = OwnerPolicy(exclude=True)
SOON_S = ROUND_S * ROUNDS
KEPT_OUT = "is kept out by its owner (config exclude)"
KEPT_OUT_NAMED = f"a {KEPT_OUT}. It stays, for its nodes were named when it was loaded."


def loaded(told: dict[str, Any], **changes: Any) -> Tended:
    house = Tended(told)
    house.ask(replace(LOAD, **changes))
    house.run(house.load_s + ROUND_S * 2)
    return house


def reason(house: Tended) -> str:
    """Of the one placement that stands."""
    (stands,) = house.leader.instances
    assert stands.state is InstanceState.READY
    return stands.reason


def test_a_model_that_stands_as_it_was_asked_for_says_nothing() -> None:
    assert reason(loaded({A: runs(500), B: runs(500)}, min_nodes=2)) == ""


def test_a_model_that_was_moved_to_fewer_nodes_says_so_until_it_has_them_again() -> None:
    house = loaded({A: runs(500), B: runs(500)}, min_nodes=2)
    house.tell(B, policy=EXCLUDED)
    house.run(SOON_S + house.load_s + 20)
    assert reason(house) == f"It was asked for on at least 2 nodes and runs on 1: b {KEPT_OUT}."
    house.tell(B, policy=OwnerPolicy())
    house.run(ROUND_S * 2)
    assert reason(house) == "It was asked for on at least 2 nodes and runs on 1."
    house.run(PAUSE_S + SOON_S + house.load_s + 20)
    assert reason(house) == ""


def test_a_model_that_cannot_leave_a_node_says_so() -> None:
    small = replace(runs(500), memory_bytes=GB // 4, memory_free_bytes=GB // 4)
    house = loaded({A: runs(500), B: small})
    house.tell(A, policy=EXCLUDED)
    house.run(ROUND_S * 2)
    assert reason(house) == f"a {KEPT_OUT}. It stays, for it fits nowhere else now."
    house.tell(A, policy=OwnerPolicy())
    house.run(ROUND_S * 2)
    assert reason(house) == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"policy": EXCLUDED}, f"a {KEPT_OUT}."),
        ({"lid_closed": True, "on_battery": True}, "a has its lid closed and runs on its battery."),
    ],
)
def test_a_model_whose_move_failed_says_so(changes: dict[str, Any], told: str) -> None:
    house = loaded({A: runs(500), B: replace(runs(500), policy=EXCLUDED)})
    house.failing, house.load_s = {B}, 5.0
    house.told[B] = runs(500)
    house.tell(A, **changes)
    for _ in range(60):
        house.run(1)
        if all(one.reason and one.state is InstanceState.READY for one in house.leader.instances):
            break
    assert reason(house) == f"{told} It stays, for moving it failed; that is tried again in a while."
    house.failing = set()
    house.run(PAUSE_S + AGAIN_S + house.load_s * 2)
    assert house.epochs[-1][1] == "b"
    assert reason(house) == ""


def test_a_model_whose_nodes_a_person_named_says_why_it_stays() -> None:
    house = loaded({A: runs(500), B: runs(500)}, stages=((A, 0, 30),))
    house.tell(A, policy=EXCLUDED)
    house.run(600)
    assert reason(house) == KEPT_OUT_NAMED
    house.tell(A, policy=OwnerPolicy())
    house.run(ROUND_S)
    assert reason(house) == ""


def test_it_is_told_once() -> None:
    house = loaded({A: runs(500), B: runs(500)}, stages=((A, 0, 30),))
    house.tell(A, policy=EXCLUDED)
    house.run(ROUND_S * 2)
    effects = [one for second in range(1, 600) for one in house.leader.tick(house.now + second)]
    lists = [one.message for one in effects if isinstance(one, Broadcast) and isinstance(one.message, Instances)]
    told = {one.version: one.instances[0].reason for one in lists}
    assert list(told.values()) == [KEPT_OUT_NAMED]


def test_only_so_many_nodes_are_named_as_the_reason() -> None:
    nodes = [f"{number:x}" * 32 for number in range(10)]
    everybody = (*members(A), *members(*nodes, state=Liveness.GONE))
    house = loaded({A: runs(500)}, min_nodes=1)
    (intent,) = house.leader._intents.wanted()
    placed = Placed(replace(instance(), stages=instance().stages[:1]), 0.0, 0.0)
    told = why_otherwise(placed, replace(intent, min_nodes=2), everybody, "")
    assert told.count("is unreachable") == ABSENT_MAX
