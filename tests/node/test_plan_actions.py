"""`plan` for a live mesh: what members told becomes a problem, and owners' limits are named if they are in the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peerinfer.api.actions import PlanWish
from peerinfer.control.members import Member, Members
from peerinfer.errors import BadRequest, NoPlacement
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import Device, EngineSpeed, HeldModel, OwnerPolicy, Snapshot, size_class
from peerinfer.node.plan_actions import Look, plan_report
from peerinfer.placement.service import Planner

GB = 10**9
MODEL = HeldModel("m", "d" * 64, 20 * GB, 20, GB, 0, 0, 1000, 4096, tuple(range(1, 20)), 1, ((0, 1),), "llama", "Q8_0")


def member(name: str, memory_gb: int, bytes_per_s: float = 0.0, **more: Any) -> Member:
    speeds = (EngineSpeed("llama.cpp", "cpu", "llama", "Q8_0", bytes_per_s, 0.0, samples=3),) if bytes_per_s else ()
    told = Snapshot(
        name=name,
        version="1",
        memory_bytes=memory_gb * GB,
        memory_free_bytes=memory_gb * GB,
        devices=(Device("cpu", "processor", cores=4),),
        engines=("llama.cpp",),
        models=(MODEL,),
        speeds=speeds,
        **more,
    )
    return Member(name[0] * 32, name, Liveness.ALIVE, told)


async def asked(members: Members, wish: PlanWish | None = None) -> dict[str, Any]:
    planner = Planner()
    try:
        return await plan_report(Look(MODEL, wish or PlanWish("m"), members, (), "d" * 32), planner.solve)
    finally:
        await planner.stop()


async def test_the_mesh_as_it_is_is_planned_for() -> None:
    told = await asked((member("desk", 64, 1e11), member("lap", 16, 1e10)))
    assert [(one["name"], one["engine"], one["layers"]) for one in told["stages"]] == [("desk", "llama.cpp", [0, 20])]
    assert told["predicted"]["tokens_per_s"] == pytest.approx(5.0, rel=0.01)
    assert "desk holds it whole" in told["summary"]
    assert [one["name"] for one in told["excluded"]] == ["lap"]
    assert told["guessed"] == []


async def test_what_was_not_measured_is_named_as_a_guess() -> None:
    told = await asked((member("desk", 64, 1e11), member("lap", 64)))
    assert told["guessed"] == [{"node": "l" * 32, "name": "lap"}]
    short = await asked((member("desk", 8),))
    assert (short["stages"], [one["name"] for one in short["guessed"]]) == ([], ["desk"])


async def test_a_node_whose_card_was_measured_and_runs_all_layers_is_no_guess() -> None:
    desk = member("desk", 64)
    assert desk.snapshot is not None
    card = Device("cuda", "NVIDIA GeForce RTX 3090", 24 * GB, 24 * GB)
    told = replace(
        desk.snapshot,
        devices=(*desk.snapshot.devices, card),
        accelerators=("cuda",),
        speeds=(EngineSpeed("llama.cpp", "cuda", "llama", "Q8_0", 5e11, 0.0, samples=3, size=size_class("cuda", GB)),),
    )
    whole = await asked((replace(desk, snapshot=told), member("lap", 16, 1e10)))
    assert [(one["name"], one["layers"]) for one in whole["stages"]] == [("desk", [0, 20])]
    assert whole["guessed"] == []
    small = replace(told, devices=(*desk.snapshot.devices, replace(card, memory_free_bytes=8 * GB)))
    assert [one["name"] for one in (await asked((replace(desk, snapshot=small),)))["guessed"]] == ["desk"]
    processor = EngineSpeed("llama.cpp", "cpu", "llama", "Q8_0", 1e10, 0.0, samples=3)
    full = replace(told, devices=(*desk.snapshot.devices, replace(card, memory_free_bytes=0)), speeds=(processor,))
    idle = await asked((replace(desk, snapshot=full), member("lap", 64, 1e11)))  # a card without room is not asked of
    assert (idle["stages"][0]["name"], idle["guessed"]) == ("lap", [])


async def test_an_owner_who_is_in_the_way_is_named() -> None:
    policy = OwnerPolicy(exclude=True)
    told = await asked((member("desk", 64, 1e11, policy=policy), member("lap", 16, 1e10)))
    assert told["stages"] == []
    assert told["infeasible"]["try"][0] == (
        "Let desk take part: its owner keeps it out; `peerinfer config exclude no` there."
    )
    assert told["infeasible"]["short_bytes"] > 0
    assert "config exclude" in next(one["reason"] for one in told["excluded"] if one["name"] == "desk")


@pytest.mark.parametrize(
    ("policy", "advice"),
    [
        (OwnerPolicy(keep_light=True), "give more: its owner limits it; `peerinfer config keep-light no` there."),
        (
            OwnerPolicy(memory_limit_bytes=GB),
            "give more: its owner limits it; `peerinfer config memory-limit none` there.",
        ),
        (
            OwnerPolicy(never_on_battery=True, memory_limit_bytes=GB),
            "take part: its owner keeps it out; `peerinfer config never-on-battery no` and "
            "`peerinfer config memory-limit none` there.",
        ),
    ],
)
async def test_what_an_owner_could_take_back_is_named_with_its_command(policy: OwnerPolicy, advice: str) -> None:
    told = await asked((member("desk", 28, 1e11, policy=policy, on_battery=True),))
    assert told["infeasible"]["try"][0] == f"Let desk {advice}"


async def test_a_setting_that_is_not_in_the_way_is_not_named() -> None:
    policy = OwnerPolicy(never_on_battery=True)
    told = await asked((member("desk", 16, 1e11, policy=policy, on_battery=False),))
    assert told["infeasible"]["try"]
    assert not any("config" in text for text in told["infeasible"]["try"])


async def test_leaving_nobody_out_is_said_as_it_is_typed() -> None:
    both = (member("desk", 64, 1e11), member("my lap", 16, 1e10))
    told = await asked(both, PlanWish("m", without=("desk", "my lap")))
    assert 'Leave nobody out: no --without desk --without "my lap".' in told["infeasible"]["try"]


async def test_nodes_are_left_out_by_name_or_id() -> None:
    both = (member("desk", 64, 1e11), member("lap", 64, 1e10))
    for name in ("desk", "d" * 32):
        told = await asked(both, PlanWish("m", without=(name,)))
        assert [one["name"] for one in told["stages"]] == ["lap"]
    with pytest.raises(BadRequest, match=r"There is no node attic to leave out\. Nodes: desk, lap\."):
        await asked(both, PlanWish("m", without=("attic",)))


async def test_a_model_that_is_not_here_is_not_planned_for() -> None:
    away = replace(member("desk", 64, 1e11), state=Liveness.UNREACHABLE)
    with pytest.raises(NoPlacement, match="do not have all of m together"):
        await asked((away,))
