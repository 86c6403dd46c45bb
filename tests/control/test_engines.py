"""Which engine runs what on which node, and what placement counts for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peerinfer.control.advice import Advice
from peerinfer.control.drawing import Table
from peerinfer.control.engines import (
    engine_for,
    head_bytes,
    kinds_for,
    layer_bytes,
    why_no_engine,
    why_no_longer,
)
from peerinfer.control.members import Member
from peerinfer.control.planning import Wishes
from peerinfer.control.problems import Standing, problem_of
from peerinfer.control.state import Instance, InstanceState, StagePlace
from peerinfer.engine.kinds import LLAMA, MLX
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import Device, EngineSpeed, HeldModel, Snapshot, size_class
from peerinfer.net.frames import Epoch
from peerinfer.placement.problem import Problem

GB = 10**9
MODEL = HeldModel(
    name="m",
    digest="d" * 64,
    size_bytes=4 * GB,
    layers=32,
    layer_bytes=GB // 8,
    embedding_bytes=0,
    head_bytes=GB,
    kv_bytes=0,
    context_length=4096,
    legal_cuts=tuple(range(1, 32)),
    architecture="llama",
    quantisation="Q4_0",
    mlx_layer_bytes=GB // 4,
    mlx_head_bytes=2 * GB,
)
"""MLX takes twice as much for it."""
LLAMA_ONLY = replace(MODEL, mlx_layer_bytes=0, mlx_head_bytes=0)
TOLD = Snapshot("n", "1", 20 * GB, 20 * GB, engines=(LLAMA,), models=(MODEL,))
BOTH = replace(TOLD, engines=(MLX, LLAMA))
METAL = (Device("metal", "Apple M3 Pro"), Device("cpu", "Apple M3 Pro", cores=11))


def problem(told: Snapshot, model: HeldModel = MODEL, standing: Standing | None = None) -> Problem:
    member = Member("a" * 32, "a", Liveness.ALIVE, told)
    wishes = Wishes(model.digest, 1024, 1)
    return problem_of(model, wishes, (member,), standing or Standing(), obeying={member.node})


@pytest.mark.parametrize(
    ("told", "model", "engine"),
    [
        (TOLD, MODEL, LLAMA),
        (BOTH, MODEL, MLX),
        (BOTH, LLAMA_ONLY, LLAMA),
        (replace(BOTH, engines=(LLAMA, MLX)), MODEL, LLAMA),
        (replace(TOLD, engines=(MLX,)), LLAMA_ONLY, ""),
        (replace(BOTH, unable=((MLX, "llama"),)), MODEL, LLAMA),
        (replace(BOTH, unable=((MLX, "gemma3"), (LLAMA, "qwen2"))), MODEL, MLX),
        (replace(TOLD, engines=()), MODEL, ""),
    ],
)
def test_the_first_engine_that_can_run_a_model_runs_it(told: Snapshot, model: HeldModel, engine: str) -> None:
    assert engine_for(told, model) == engine
    assert [each.node for each in problem(told, model).nodes] == (["a" * 32] if engine else [])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"engines": ()}, "has no engine that runs models"),
        ({"engines": (MLX,)}, "has mlx only, which cannot run this model (config engines)"),
        (
            {"engines": (), "troubles": ((MLX, "It is broken."),)},
            "may run layers in mlx only, which does not run there",
        ),
        ({"engines": (), "troubles": (("nvml", "No driver."),)}, "has no engine that runs models"),
    ],
)
def test_a_node_without_an_engine_is_left_out_with_the_reason(changes: dict[str, Any], why: str) -> None:
    told = replace(TOLD, **changes)
    assert why_no_engine(told).startswith(why)
    (excluded,) = problem(told, LLAMA_ONLY).excluded
    assert excluded.reason == why_no_engine(told)


def test_an_mlx_node_takes_fewer_layers_by_what_they_hold_there() -> None:
    (by_file,), (in_mlx,) = problem(TOLD).nodes, problem(BOTH).nodes
    assert in_mlx.memory_bytes == pytest.approx(by_file.memory_bytes / 2, rel=1e-6)
    assert (layer_bytes(MODEL, MLX), head_bytes(MODEL, MLX)) == (GB // 4, 2 * GB)
    assert (layer_bytes(LLAMA_ONLY, MLX), head_bytes(LLAMA_ONLY, MLX)) == (GB // 8, GB)


def test_what_stands_in_mlx_counts_with_what_it_holds() -> None:
    def left(engine: str) -> int:
        stages = (StagePlace("a" * 32, engine, 0, 16), StagePlace("b" * 32, LLAMA, 16, 32))
        other = replace(MODEL, digest="e" * 64)
        told = replace(TOLD, models=(MODEL, other))
        epoch = Epoch(1, "a" * 32, 1)
        standing = Instance("i", "m", other.digest, epoch, InstanceState.READY, stages=stages, context=1024, slots=1)
        (node,) = problem(told, standing=Standing([standing])).nodes
        return node.memory_bytes

    assert left(LLAMA) - left(MLX) == 16 * (GB // 4 - GB // 8)


def test_each_engine_computes_with_its_own_devices() -> None:
    apple = replace(BOTH, devices=METAL, accelerators=("metal",))
    nvidia = replace(BOTH, devices=(Device("cuda", "RTX 3060", 12 * GB, 12 * GB), METAL[1]), accelerators=("cuda",))
    assert kinds_for(MLX, apple) == kinds_for(LLAMA, apple) == ("metal",)
    assert (kinds_for(MLX, nvidia), kinds_for(LLAMA, nvidia)) == ((), ("cuda",))
    assert len(problem(nvidia).nodes[0].devices) == 1
    assert len(problem(replace(nvidia, engines=(LLAMA,))).nodes[0].devices) == 2


def test_speeds_are_those_of_the_engine_that_will_run() -> None:
    def speed(engine: str, rate: float) -> EngineSpeed:
        size = size_class("metal", MODEL.layer_bytes)
        return EngineSpeed(engine, "metal", "llama", "Q4_0", rate, 0.0, 0.0, 0.0, 3, size)

    told = replace(BOTH, devices=METAL, accelerators=("metal",), speeds=(speed(LLAMA, 50e9), speed(MLX, 100e9)))
    us = {
        engines: problem(replace(told, engines=engines)).nodes[0].devices[0].layer_us for engines in ((MLX,), (LLAMA,))
    }
    assert us[MLX,] == pytest.approx(MODEL.layer_bytes / 100e9 * 1e6)
    assert us[LLAMA,] == pytest.approx(MODEL.layer_bytes / 50e9 * 1e6)


def test_a_stage_leaves_a_node_whose_owner_took_its_engine_away() -> None:
    assert why_no_longer(MLX, BOTH) == why_no_longer(LLAMA, None) == ""
    assert why_no_longer(MLX, TOLD) == "runs layers in mlx no more (config engines)"


def test_a_plan_names_the_engine_of_each_stage() -> None:
    a, b = (Member(node * 32, node, Liveness.ALIVE, told) for node, told in (("a", BOTH), ("b", TOLD)))
    named = Wishes(MODEL.digest, 1024, 1, stages=(("a", 0, 8), ("b", 8, 32)))
    drawn = Table((a, b), {a.node, b.node}, Advice()).draw(MODEL, named, 0.0)
    assert [stage.engine for stage in drawn.stages] == [MLX, LLAMA]
