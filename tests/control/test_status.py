"""`status --json`: names and shapes as interface.md has them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from peerinfer.control.observer import report_of
from peerinfer.control.state import (
    Ballot,
    ClusterLink,
    ClusterMember,
    ClusterState,
    Device,
    Epoch,
    Forecast,
    HeldStage,
    Instance,
    InstanceState,
    Liveness,
    Neighbour,
    Speed,
    StagePlace,
)
from peerinfer.control.status import status
from peerinfer.gossip.snapshot import Snapshot
from tests.control.cluster import MODEL, node_id

EPOCH = Epoch(3, node_id(1), 2)
INSTANCE = Instance(
    id="i" * 32,
    model="tiny",
    digest=MODEL.digest,
    epoch=EPOCH,
    state=InstanceState.READY,
    stages=(StagePlace(node_id(1), "llama.cpp", 0, 15), StagePlace(node_id(2), "mlx", 15, 30)),
    context=4096,
    slots=4,
)


def snapshot(number: int, *stages: HeldStage) -> Snapshot:
    devices = (Device("cpu", "A processor", cores=8),)
    return Snapshot(f"n{number}", "0.1", 16, 9, devices, False, ("llama.cpp",), (MODEL,), stages)


def held(stage: int, ms_per_token: float, hop_in_ms: float, state: str = "ready", progress: float = 1.0) -> HeldStage:
    return HeldStage(INSTANCE.id, EPOCH, stage, state, progress, ms_per_token, hop_in_ms, 10)


def members(*snapshots: Snapshot) -> tuple[ClusterMember, ...]:
    return tuple(
        ClusterMember(node_id(number), told.name, Liveness.ALIVE, report_of(told))
        for number, told in enumerate(snapshots, 1)
    )


STATE = ClusterState(
    node=node_id(1),
    mesh="aa" * 16,
    leader=node_id(1),
    ballot=Ballot(3, node_id(1)),
    members=members(snapshot(1, held(0, 3.0, 0.5)), snapshot(2, held(1, 6.0, 0.5))),
    neighbours=(Neighbour("192.168.1.9:8643", True, 41875),),
    links=(ClusterLink(node_id(1), node_id(2), 210.5),),
    instances=(INSTANCE,),
)


def drawn(state: ClusterState = STATE) -> dict[str, Any]:
    """After a trip through JSON, as programs see it."""
    return json.loads(json.dumps(status(state)))


def test_the_shape() -> None:
    shown = drawn()
    assert shown["node"] == {"id": node_id(1), "name": "n1", "version": "0.1", "engines": ["llama.cpp"]}
    assert shown["mesh"] == {"id": "aa" * 16, "leader": node_id(1), "ballot": [3, node_id(1)]}
    assert [(one["id"], one["name"], one["state"]) for one in shown["members"]] == [
        (node_id(1), "n1", "alive"),
        (node_id(2), "n2", "alive"),
    ]
    told = shown["members"][0]["snapshot"]
    assert (told["memory_bytes"], told["memory_free_bytes"], told["on_battery"]) == (16, 9, False)
    assert told["devices"][0]["name"] == "A processor"
    assert shown["nearby"] == [{"address": "192.168.1.9:8643", "pairing": True, "pairing_port": 41875}]
    link = {"from": node_id(1), "to": node_id(2), "rtt_us": 210.5, "bandwidth_bytes_per_s": None, "is_stale": False}
    assert shown["links"] == [link]


def test_an_instance_shows_its_stages_with_their_measured_times() -> None:
    (shown,) = drawn()["instances"]
    assert (shown["id"], shown["model"], shown["state"]) == (INSTANCE.id, "tiny", "ready")
    assert shown["epoch"] == [3, node_id(1), 2]
    assert [(one["node"], one["engine"], one["layers"], one["ms_per_token"]) for one in shown["stages"]] == [
        (node_id(1), "llama.cpp", [0, 15], 3.0),
        (node_id(2), "mlx", [15, 30], 6.0),
    ]
    nothing = {"tokens_per_s": None, "ttft_ms": None, "bottleneck": None, "solver": None, "optimal": False, "why": None}
    assert shown["predicted"] == nothing
    assert shown["error"] is None
    assert shown["measured"] == {"tokens_per_s": 100.0, "ttft_ms": None}


def test_what_a_stage_waits_counts_in_a_step_and_is_shown() -> None:
    waiting = replace(held(1, 6.0, 0.5), wait_ms=2.5)
    (shown,) = drawn(replace(STATE, members=members(snapshot(1, held(0, 3.0, 0.5)), snapshot(2, waiting))))["instances"]
    assert [(one["hop_in_ms"], one["wait_ms"]) for one in shown["stages"]] == [(0.5, None), (0.5, 2.5)]
    assert shown["measured"]["tokens_per_s"] == 80.0


def test_what_the_gateway_measured_comes_first() -> None:
    state = replace(STATE, speeds=(Speed(INSTANCE.id, 88.0, 41.0, EPOCH),))
    assert drawn(state)["instances"][0]["measured"] == {"tokens_per_s": 88.0, "ttft_ms": 41.0}


def test_what_was_measured_of_another_placement_is_not_held_against_this_one() -> None:
    for epoch in (None, replace(EPOCH, n=EPOCH.n + 1)):
        state = replace(STATE, speeds=(Speed(INSTANCE.id, 88.0, 41.0, epoch),))
        assert drawn(state)["instances"][0]["measured"] == {"tokens_per_s": 100.0, "ttft_ms": None}


def test_what_was_expected_is_held_against_what_was_measured() -> None:
    told = Forecast(40.0, 900.0, "desk: 12.1 of 24.3 ms per token", "cp-sat", True, "desk holds it whole.")
    placed = replace(INSTANCE, forecast=told)
    (shown,) = drawn(replace(STATE, instances=(placed,), speeds=(Speed(INSTANCE.id, 38.0, 800.0, EPOCH),)))["instances"]
    assert (shown["predicted"]["tokens_per_s"], shown["predicted"]["why"]) == (40.0, "desk holds it whole.")
    assert (shown["predicted"]["solver"], shown["predicted"]["optimal"]) == ("cp-sat", True)
    assert shown["error"] == -0.05


def test_nothing_is_claimed_before_it_is_measured() -> None:
    state = replace(STATE, members=members(snapshot(1, held(0, 0.0, 0.0)), snapshot(2)))
    (shown,) = drawn(state)["instances"]
    assert shown["measured"]["tokens_per_s"] is None
    assert [stage["ms_per_token"] for stage in shown["stages"]] == [None, None]


def test_a_mesh_without_a_leader_and_a_member_without_a_snapshot() -> None:
    away = (ClusterMember(node_id(2), "desk", Liveness.GONE),)
    shown = drawn(replace(STATE, leader=None, ballot=None, members=away))
    assert shown["mesh"] == {"id": "aa" * 16, "leader": None, "ballot": None}
    assert shown["members"] == [{"id": node_id(2), "name": "desk", "state": "gone", "snapshot": None}]
    assert shown["node"] == {"id": node_id(1), "name": "", "version": "", "engines": []}


def test_stages_of_another_epoch_do_not_count() -> None:
    old = replace(held(0, 3.0, 0.5), epoch=Epoch(3, node_id(1), 1))
    state = replace(STATE, members=members(snapshot(1, old), snapshot(2)))
    assert drawn(state)["instances"][0]["stages"][0]["ms_per_token"] is None


def test_the_share_of_loading_is_the_mean_of_the_stages() -> None:
    half = members(snapshot(1, held(0, 0.0, 0.0)), snapshot(2, held(1, 0.0, 0.0, "loading", 0.5)))
    assert replace(STATE, members=half).loading_share(INSTANCE) == 0.75
    assert replace(STATE, members=members(snapshot(1), snapshot(2))).loading_share(INSTANCE) == 0.0


def test_an_instance_that_failed_without_a_place_is_shown() -> None:
    nowhere = replace(INSTANCE, state=InstanceState.FAILED, stages=(), reason="Nothing fits.")
    (shown,) = drawn(replace(STATE, instances=(nowhere,)))["instances"]
    assert (shown["stages"], shown["reason"], shown["measured"]["tokens_per_s"]) == ([], "Nothing fits.", None)
