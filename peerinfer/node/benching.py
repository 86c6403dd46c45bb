"""What `bench` measures: this machine with one model, and the mesh where that model is loaded."""

from __future__ import annotations

from typing import Final

from peerinfer.api.actions import Progress, ProgressHandler
from peerinfer.api.replies import JsonObject
from peerinfer.control.engines import engine_for
from peerinfer.control.state import Instance, InstanceState
from peerinfer.engine.base import StageSpec
from peerinfer.engine.host import StageHost
from peerinfer.engine.kinds import LLAMA
from peerinfer.engine.measuring import Measured
from peerinfer.errors import EngineError, NoPlacement, UnknownModel
from peerinfer.models.store import ModelEntry
from peerinfer.net.frames import Epoch
from peerinfer.node.node import Node
from peerinfer.node.portrait import held_model
from peerinfer.pipeline.metering import STEP_US, StageFigures, StageShape, shape_of
from peerinfer.pipeline.requests import ChatRequest

CONTEXT: Final = 512
"""Tokens of the stage that is measured: room for the prompt and the steps, and little cache."""
TOKENS: Final = 64
"""Of the answer by the mesh."""
PROMPT: Final = "Once upon a time, in a house with many computers, somebody asked"
LEASE: Final = ("bench", Epoch(0, "bench", 0))
"""Keeps the stage's files while they are measured."""
MEMORY_SHARE: Final = 0.7
"""Of the memory that is free may be taken for a measurement."""


async def bench(node: Node, model: str, progress: ProgressHandler) -> JsonObject:
    """Measures; keeps the figures for placement. Raises `UnknownModel`, `NoPlacement` or what the engine raises."""
    entry = await _entry(node, model)
    machine = await _machine(node, entry, progress)
    ready = [one for one in node.session.control.instances() if one.digest == entry.digest]
    instance = next((one for one in ready if one.state is InstanceState.READY), None)
    mesh = None if instance is None else await _mesh(node, instance, progress)
    return {"model": entry.name, "machine": machine, "mesh": mesh}


async def _entry(node: Node, model: str) -> ModelEntry:
    """The model that is meant: without a name what is loaded, or the smallest file here."""
    if model:
        return await node.store.find(model)
    loaded = {one.digest for one in node.session.control.instances()}
    entries = sorted((await node.store.listing()).models, key=lambda one: (one.digest not in loaded, one.size_bytes))
    if not entries:
        raise UnknownModel("There is no model on this machine to measure with. Bring one here with `peerinfer pull`.")
    return entries[0]


async def _machine(node: Node, entry: ModelEntry, progress: ProgressHandler) -> JsonObject:
    facts, hardware = entry.facts, node.session.instruments.collector.hardware
    each = max(facts.layer_bytes) + facts.kv_bytes_per_token_per_layer * CONTEXT
    room = int(hardware.memory_free_bytes * MEMORY_SHARE) - facts.head_bytes - facts.embedding_bytes
    first = _first_layer(entry, max(0, room) // max(1, each))
    layers = (first, facts.n_layers)
    engine = engine_for(node.session.portrait.compose(), held_model("", "", 0, facts)) or LLAMA
    progress(Progress(f"Measuring this machine with layers {first}-{facts.n_layers} of {entry.name}"))
    try:
        measured, empty_us = await _measured(node, entry, layers, engine)
    finally:
        node.warehouse.release(LEASE)
    shape = shape_of(facts, layers, engine)
    stage_us = empty_us + STEP_US
    figures = StageFigures(shape, measured.decode_us, measured.head_us, measured.prefill_us, stage_us)
    node.session.instruments.speeds.learn(figures)
    return _told(shape, layers, measured, stage_us, [device.name for device in hardware.devices])


def _first_layer(entry: ModelEntry, most: int) -> int:
    """Where the largest stage with the head begins that fits. Raises `NoPlacement`."""
    layers = entry.facts.n_layers
    fitting = [cut for cut in (0, *entry.facts.legal_cuts) if layers - cut <= most]
    if not fitting:
        raise NoPlacement(f"There is too little free memory on this machine to run a layer of {entry.name}.")
    return min(fitting)


async def _measured(node: Node, entry: ModelEntry, layers: tuple[int, int], engine: str) -> tuple[Measured, float]:
    files = await node.warehouse.stage_files(LEASE, entry.digest, entry.name, layers, lambda _: None)
    spec = StageSpec(
        kind=files.kind,
        first=layers[0] == 0,
        shard_path=str(files.shard),
        model_path=str(files.embedding),
        layers=layers[1] - layers[0],
        n_embd=files.facts.n_embd,
        n_vocab=files.facts.n_vocab,
        context=CONTEXT,
        slots=1,
        threads=node.config.threads,
        engine=engine,
        record_path=str(files.record),
    )
    host = await StageHost.start(spec, lambda _: None, lambda _: None)
    try:
        return await host.calibrate()
    finally:
        await host.stop()


def _told(
    shape: StageShape, layers: tuple[int, int], measured: Measured, stage_us: float, devices: list[str]
) -> JsonObject:
    token_us = measured.decode_us + measured.head_us
    weights = shape.layers * shape.layer_bytes + shape.head_bytes
    return {
        "devices": devices,
        "engine": shape.engine,
        "layers": list(layers),
        "tokens_per_s": round(1e6 / (token_us + stage_us), 2),
        "decode_ms": round(measured.decode_us / 1000, 3),
        "head_ms": round(measured.head_us / 1000, 3),
        "stage_ms": round(stage_us / 1000, 3),
        "prefill_tokens_per_s": round(1e6 / measured.prefill_us, 1) if measured.prefill_us else None,
        "weights_bytes_per_s": round(weights / token_us * 1e6),
        "steps": measured.steps,
    }


async def _mesh(node: Node, instance: Instance, progress: ProgressHandler) -> JsonObject:
    """A short greedy answer through what is loaded."""
    progress(Progress(f"Measuring an answer of {instance.model} through {len(instance.stages)} stages"))
    request = ChatRequest(instance.id, (), prompt=PROMPT, max_tokens=TOKENS)
    answer = await node.open(request)
    async for _ in answer:
        pass
    if not answer.tokens_per_s:
        raise EngineError("The answer was too short to be measured. Ask again, or measure with another model.")
    (shown,) = [one for one in node.session.control.status()["instances"] if one["id"] == instance.id]
    predicted: float | None = shown["predicted"]["tokens_per_s"]
    error = round(answer.tokens_per_s / predicted - 1, 3) if predicted else None
    return {
        "stages": shown["stages"],
        "predicted": shown["predicted"],
        "measured": {"tokens_per_s": round(answer.tokens_per_s, 2), "ttft_ms": round(answer.ttft_ms, 1)},
        "error": error,
    }
