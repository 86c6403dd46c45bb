"""From members to the problem of a planner: who is left out and why, what memory counts, and numbers that cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerinfer.control.advice import Advice
from peerinfer.control.drawing import Table
from peerinfer.control.members import Member
from peerinfer.control.planning import Wishes, model_of
from peerinfer.control.problems import (
    CARD_STAGE_BYTES,
    STAGE_BYTES,
    Standing,
    is_pressed,
    problem_of,
    why_busy,
    why_leaving,
    why_unwelcome,
)
from peerinfer.control.state import Instance, InstanceState, StagePlace
from peerinfer.errors import NoLeader, NoPlacement
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import (
    NUMBER_MAX,
    Device,
    EngineSpeed,
    HeldModel,
    LinkFigure,
    OwnerPolicy,
    Snapshot,
    size_class,
)
from peerinfer.net.frames import Epoch
from peerinfer.placement.problem import Problem

GB = 10**9
MODEL = HeldModel("m", "d" * 64, 4 * GB, 32, GB // 8, 0, 0, 0, 4096, tuple(range(1, 32)))
WISHES = Wishes(MODEL.digest, 1024, 1)
TOLD = Snapshot("n", "1", 16 * GB, 16 * GB, engines=("llama.cpp",), models=(MODEL,))
A, B = "a" * 32, "b" * 32


def member(node: str = A, state: Liveness = Liveness.ALIVE, **changes: Any) -> Member:
    return Member(node, node[:1], state, replace(TOLD, **changes))


def problem(*members: Member, is_lenient: bool = False, standing: Standing | None = None, **wishes: Any) -> Problem:
    nodes = {one.node for one in members}
    return problem_of(MODEL, WISHES, members, standing or Standing(), obeying=nodes, is_lenient=is_lenient, **wishes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policy": OwnerPolicy(exclude=True)}, "config exclude"),
        ({"policy": OwnerPolicy(never_on_battery=True), "on_battery": True}, "config never-on-battery"),
        ({"engines": ()}, "no engine"),
        ({"models": (), "disk_free_bytes": 100}, "on its disk"),
    ],
)
def test_who_may_not_is_left_out_for_good(changes: dict[str, Any], reason: str) -> None:
    for is_lenient in (False, True):
        found = problem(member(), member(B, **changes), is_lenient=is_lenient)
        assert [node.node for node in found.nodes] == [A]
        assert reason in found.excluded[0].reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lid_closed": True, "on_battery": True}, "lid closed"),
        ({"thermal": "critical"}, "too hot"),
        ({"policy": OwnerPolicy(keep_light=True), "user_active": True}, "config keep-light"),
    ],
)
def test_who_should_not_is_taken_only_if_it_must_be(changes: dict[str, Any], reason: str) -> None:
    strict = problem(member(), member(B, **changes))
    assert [node.node for node in strict.nodes] == [A]
    assert reason in strict.excluded[0].reason
    assert len(problem(member(), member(B, **changes), is_lenient=True).nodes) == 2
    for fine in (member(B, lid_closed=True), member(B, user_active=True), member(B, thermal="serious")):
        assert len(problem(member(), fine).nodes) == 2


def test_those_who_are_away_silent_elsewhere_or_unwanted_are_left_out() -> None:
    members = (member(), member(B, Liveness.UNREACHABLE), Member("c" * 32, "c", Liveness.ALIVE), member("d" * 32))
    found = problem_of(MODEL, WISHES, members, Standing(), obeying={A, B, "c" * 32})
    assert [(one.node[0], one.reason.split()[0]) for one in found.excluded] == [
        ("b", "is"),
        ("c", "has"),
        ("d", "follows"),
    ]
    assert "as was asked" in problem(member(), member(B), without=("b",)).excluded[0].reason


@pytest.mark.parametrize(
    ("changes", "usable"),
    [
        ({}, 14.4),
        ({"memory_free_bytes": 8 * GB}, 7.2),
        ({"policy": OwnerPolicy(keep_light=True)}, 4.0),
        ({"policy": OwnerPolicy(memory_limit_bytes=3 * GB)}, 3.0),
        ({"memory_free_bytes": GB // 4}, 0.0),
        ({"devices": (Device("metal", "Apple M3"),), "accelerators": ("metal",)}, 11.2),
    ],
)
def test_what_memory_a_machine_may_give(changes: dict[str, Any], usable: float) -> None:
    (node,) = problem(member(**changes)).nodes
    assert node.memory_bytes == pytest.approx(usable * GB)


def test_what_stands_takes_memory_and_what_leaves_gives_it_back() -> None:
    stage = StagePlace(A, "llama.cpp", 0, 16)
    stands = Instance("i" * 32, "m", MODEL.digest, Epoch(1, A, 1), InstanceState.READY, (stage,), 1024, 1)
    (beside,) = problem(member(memory_bytes=4 * GB, memory_free_bytes=4 * GB), standing=Standing((stands,))).nodes
    assert beside.memory_bytes == pytest.approx(3.6 * GB - 2 * GB - STAGE_BYTES)
    (instead,) = problem(
        member(memory_bytes=4 * GB, memory_free_bytes=2 * GB), standing=Standing(leaving=(stands,))
    ).nodes
    assert instead.memory_bytes == pytest.approx(3.6 * GB)


def test_a_card_is_a_device_of_its_own_only_where_the_engine_uses_it() -> None:
    card = Device("cuda", "NVIDIA GeForce RTX 3060", 12 * GB, 10 * GB)
    (unused,) = problem(member(devices=(card,))).nodes
    assert len(unused.devices) == 1
    (used,) = problem(member(devices=(card,), accelerators=("cuda",))).nodes
    assert [device.memory_bytes for device in used.devices] == [9 * GB - CARD_STAGE_BYTES, 14_400_000_000]
    assert used.devices[0].layer_us < used.devices[1].layer_us


def test_what_stands_on_a_card_takes_its_memory() -> None:
    card = Device("cuda", "NVIDIA GeForce RTX 3060", 12 * GB, 12 * GB)
    stage = StagePlace(A, "llama.cpp", 0, 16, accelerated=16)
    stands = Instance("i" * 32, "m", MODEL.digest, Epoch(1, A, 1), InstanceState.READY, (stage,), 1024, 1)
    (node,) = problem(member(devices=(card,), accelerators=("cuda",)), standing=Standing((stands,))).nodes
    assert node.devices[0].memory_bytes == int(10.8 * GB) - 2 * GB - 2 * CARD_STAGE_BYTES


def test_each_of_several_cards_has_a_context_and_a_gpu_without_memory_stands_for_nobody_beside_them() -> None:
    card = Device("cuda", "NVIDIA GeForce RTX 3060", 12 * GB, 12 * GB)
    measured = EngineSpeed("llama.cpp", "cpu", "", "", 1e10, 0.0, 0.0, 1e11, 1)
    told = member(devices=(card, card, Device("intel", "Arc")), accelerators=("cuda", "intel"), speeds=(measured,))
    (node,) = problem(told).nodes
    assert node.devices[0].memory_bytes == int(21.6 * GB) - 2 * CARD_STAGE_BYTES
    assert not node.devices[1].is_guessed
    assert node.devices[1].layer_us == pytest.approx(MODEL.layer_bytes / 1e10 * 1e6)


def test_only_a_device_that_computes_a_stage_makes_a_guess_of_it() -> None:
    card = Device("cuda", "NVIDIA GeForce RTX 3060", 12 * GB, 12 * GB)
    size = size_class("cuda", MODEL.layer_bytes)
    measured = EngineSpeed("llama.cpp", "cuda", "", "", 2e11, 30.0, 350.0, 1e13, 1, size)
    one = member(devices=(card,), accelerators=("cuda",), speeds=(measured,))
    (node,) = problem(one).nodes
    assert node.stage_us == 350.0
    assert [node.is_guessed(32, accelerated) for accelerated in (0, 8, 32)] == [True, True, False]
    drawn = Table((one,), {A}, Advice()).draw(MODEL, WISHES, 0.0)
    assert drawn.stages == (StagePlace(A, "llama.cpp", 0, 32, accelerated=32),)
    assert drawn.forecast.tokens_per_s == pytest.approx(1e6 / (32 * (GB / 8 / 2e11 * 1e6 + 30.0) + 350.0), rel=0.01)
    tight = replace(card, memory_free_bytes=2 * GB)
    spilt = Table((member(devices=(tight,), accelerators=("cuda",), speeds=(measured,)),), {A}, Advice())
    assert spilt.draw(MODEL, WISHES, 0.0).forecast.tokens_per_s == 0.0


def test_a_link_that_one_end_measured_stands_for_both() -> None:
    found = problem(member(links=(LinkFigure(B, 400.0, 1e7),)), member(B))
    assert {(link.origin, link.target, link.latency_us) for link in found.links} == {(A, B, 200.0), (B, A, 200.0)}


def test_of_a_node_that_told_nothing_nothing_is_believed() -> None:
    silent = Member(A, "a", Liveness.ALIVE)
    assert (why_unwelcome(silent), why_leaving(silent), why_busy(silent), is_pressed(silent)) == ("", "", "", False)


def test_a_forecast_names_the_link_that_takes_most() -> None:
    speed = EngineSpeed("llama.cpp", "cpu", "", "", 1e12, 10.0, 0.0, 1e13, 1)
    small = replace(TOLD, speeds=(speed,), memory_bytes=3 * GB, memory_free_bytes=3 * GB)
    ends = ((A, B), (B, A))
    members = tuple(
        Member(node, node[:1], Liveness.ALIVE, replace(small, links=(LinkFigure(peer, 90_000.0, 1e7),)))
        for node, peer in ends
    )
    drawn = Table(members, {A, B}, Advice()).draw(MODEL, WISHES, 0.0)
    assert drawn.forecast.bottleneck == "a → b: 45.0 of 94.3 ms per token"
    assert drawn.forecast.tokens_per_s == pytest.approx(1000 / 94.3, rel=0.01)
    assert "share it" in drawn.forecast.why
    with pytest.raises(NoPlacement, match="cannot be"):
        Table(members, {A, B}, Advice()).draw(replace(MODEL, layers=10**9), WISHES, 0.0)
    crowded = (member(policy=OwnerPolicy(keep_light=True), user_active=True),)
    with pytest.raises(NoPlacement):
        Table(crowded, {A}, Advice()).draw(MODEL, WISHES, 0.0, is_strict=True)


whole = st.integers(0, NUMBER_MAX)
real = st.floats(0, 1.7e308)
models = st.builds(
    HeldModel,
    name=st.just("m"),
    digest=st.just(MODEL.digest),
    size_bytes=whole,
    layers=whole | st.integers(0, 200),
    layer_bytes=whole,
    embedding_bytes=whole,
    head_bytes=whole,
    kv_bytes=whole,
    context_length=whole,
    legal_cuts=st.lists(whole | st.integers(0, 200), max_size=20).map(tuple),
    width=whole,
)
snapshots = st.builds(
    Snapshot,
    name=st.just("n"),
    version=st.just("1"),
    memory_bytes=whole,
    memory_free_bytes=whole,
    engines=st.just(("llama.cpp",)),
    models=models.map(lambda one: (one,)),
    devices=st.lists(st.builds(Device, st.sampled_from(["cpu", "cuda"]), st.just("x"), whole, whole), max_size=3).map(
        tuple
    ),
    accelerators=st.sampled_from([(), ("cuda",)]),
    disk_free_bytes=st.none() | whole,
    links=st.lists(st.builds(LinkFigure, st.sampled_from([A, B, "c"]), real, real), max_size=3).map(tuple),
    speeds=st.lists(
        st.builds(
            EngineSpeed,
            engine=st.just("llama.cpp"),
            device=st.sampled_from(["cpu", "cuda"]),
            architecture=st.just(""),
            quantisation=st.just(""),
            bytes_per_s=real,
            overhead_us=real,
            stage_us=real,
            prefill_bytes_per_s=real,
            samples=st.just(1),
            size=st.integers(0, 40) | whole,
        ),
        max_size=2,
    ).map(tuple),
)


@settings(max_examples=300, deadline=None)
@given(snapshots, snapshots, st.sampled_from(["latency", "throughput", "spread"]))
def test_whatever_members_say_the_leader_plans_or_says_why_not(one: Snapshot, other: Snapshot, policy: str) -> None:
    members = (Member(A, "a", Liveness.ALIVE, one), Member(B, "b", Liveness.ALIVE, other))
    table = Table(members, {A, B}, Advice())
    wishes = replace(WISHES, policy=policy)
    for now in (0.0, 10.0):
        told = ""
        try:
            stages = table.draw(one.models[0], wishes, now).stages
        except (NoPlacement, NoLeader) as error:
            stages, told = (), str(error)
        assert stages or told


def test_what_a_model_takes_in_mlx_is_asked_of_a_member_that_tells_it() -> None:
    """A member of an older version has the model too, and says nothing of MLX."""
    telling = replace(MODEL, mlx_layer_bytes=GB // 6)
    older, newer = member(), member(B, models=(telling,))
    assert model_of(MODEL.digest, [older, newer]) == model_of(MODEL.digest, [newer, older]) == telling
    partly = replace(telling, held=((0, 1),), tensors=8)
    assert model_of(MODEL.digest, [member(B, models=(partly,)), older]) == MODEL
