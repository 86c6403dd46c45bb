"""What a node tells of itself: the snapshot, its msgpack map, and the limits it is read with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Final, TypeVar, cast

from peerinfer.errors import BadFrame
from peerinfer.gossip.envelope import PAYLOAD_MAX_BYTES
from peerinfer.net.frames import Epoch
from peerinfer.packing import pack, unpack

NAME_MAX_BYTES: Final = 128
"""A peer's name for a node, device, engine or model: 64 characters of two bytes, or 128 plain ones."""
WORD_MAX_BYTES: Final = 64
"""An id, digest, version or state word."""
DEVICES_MAX: Final = 16
ENGINES_MAX: Final = 8
MODELS_MAX: Final = 256
"""Model files told to peers; a larger library still serves locally, and whatever overflows the payload is left out."""
STAGES_MAX: Final = 64
RANGES_MAX: Final = 64
"""Ranges of tensors of one model on one node: in a file the tensors of a layer stand together."""
CUTS_MAX: Final = 1024
"""Legal cuts of one model: more layers than any model has."""
NUMBER_MAX: Final = 2**63 - 1

MODEL_FIELDS: Final = 10
"""Of a model's row; what was appended later may be missing in that of an older peer."""
NO_TENSORS: Final[tuple[object, ...]] = (0, [])

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Device:
    """Something that computes: the processor, or a GPU with its own memory."""

    kind: str
    """`cpu` or `cuda`."""
    name: str
    memory_bytes: int = 0
    """Its own memory; 0 if it uses the machine's."""
    memory_free_bytes: int = 0
    cores: int = 0


@dataclass(frozen=True, slots=True)
class HeldModel:
    """A model file on a node, with the numbers that placement needs (so a leader without the file can plan)."""

    name: str
    digest: str
    size_bytes: int
    layers: int
    layer_bytes: int
    """Weights of the heaviest layer."""
    embedding_bytes: int
    head_bytes: int
    kv_bytes: int
    """KV cache of one token in one layer."""
    context_length: int
    """Tokens the model was trained for; 0 if it does not say."""
    legal_cuts: tuple[int, ...]
    """Layers at which a stage may begin, besides 0; empty if the model must run whole."""
    tensors: int = 0
    """Number of its tensors; 0 where that is not told, and all are meant to be here."""
    held: tuple[tuple[int, int], ...] = ()
    """Half-open ranges of the numbers of those that are here: a node that fetched a stage has some of them."""

    @property
    def is_whole(self) -> bool:
        """Whether the node has all of its weights."""
        return not self.tensors or self.held == ((0, self.tensors),)


@dataclass(frozen=True, slots=True)
class HeldStage:
    """A stage that a node holds or loads."""

    instance: str
    epoch: Epoch
    stage: int
    state: str
    """`loading`, `ready` or `failed`."""
    progress: float = 0.0
    """Share of the loading that is done, 0 … 1."""
    ms_per_token: float = 0.0
    """Measured time of a decode step in this stage; 0 before the first."""
    hop_in_ms: float = 0.0
    """Measured time from the former stage; 0 before the first."""
    tokens: int = 0
    """Tokens computed so far."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a node tells of itself. No prompt, answer or user name ever stands here."""

    name: str
    version: str
    memory_bytes: int
    memory_free_bytes: int
    devices: tuple[Device, ...] = ()
    on_battery: bool | None = None
    """None where the machine does not say."""
    engines: tuple[str, ...] = ()
    models: tuple[HeldModel, ...] = ()
    stages: tuple[HeldStage, ...] = ()
    disk_free_bytes: int | None = None
    """Room for what must be fetched; None if it is not known."""


def clean(text: str, max_bytes: int = NAME_MAX_BYTES) -> str:
    """`text` without control characters, cut to `max_bytes` of UTF-8."""
    plain = text if text.isprintable() else "".join(letter for letter in text if letter.isprintable())
    return plain.encode("utf-8", "ignore")[:max_bytes].decode("utf-8", "ignore")


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The payload of an envelope, ≤ `PAYLOAD_MAX_BYTES`: models at the end of the list are left out until it fits."""
    fitting = replace(
        snapshot,
        name=clean(snapshot.name),
        version=clean(snapshot.version, WORD_MAX_BYTES),
        devices=snapshot.devices[:DEVICES_MAX],
        engines=tuple(clean(engine) for engine in snapshot.engines[:ENGINES_MAX]),
        models=snapshot.models[:MODELS_MAX],
        stages=snapshot.stages[:STAGES_MAX],
    )
    while len(payload := pack(_map_out(fitting))) > PAYLOAD_MAX_BYTES and fitting.models:
        fitting = replace(fitting, models=fitting.models[: len(fitting.models) * 3 // 4])
    return payload


def decode_snapshot(payload: bytes) -> Snapshot:
    """The snapshot in a payload; unknown keys and items appended to a row are ignored. Raises `BadFrame`."""
    try:
        raw = unpack(payload, PAYLOAD_MAX_BYTES, maps=True)
    except ValueError as error:
        raise BadFrame(f"Not a snapshot: {error}.") from None
    if not isinstance(raw, dict):
        raise BadFrame("A snapshot must be a map.")
    values = cast(dict[str, object], raw)
    try:
        return Snapshot(
            name=_name(values["name"]),
            version=_word(values["version"]),
            memory_bytes=_whole(values["memory_bytes"]),
            memory_free_bytes=_whole(values["memory_free_bytes"]),
            devices=_rows(values.get("devices", []), DEVICES_MAX, _device),
            on_battery=_maybe(values.get("on_battery")),
            engines=_rows(values.get("engines", []), ENGINES_MAX, _name),
            models=_rows(values.get("models", []), MODELS_MAX, _model),
            stages=_rows(values.get("stages", []), STAGES_MAX, _stage),
            disk_free_bytes=None if values.get("disk_free_bytes") is None else _whole(values["disk_free_bytes"]),
        )
    except KeyError as error:
        raise BadFrame(f"A snapshot without {error}.") from None


def _map_out(snapshot: Snapshot) -> dict[str, object]:
    return {field.name: _out(getattr(snapshot, field.name)) for field in fields(snapshot)}


def _out(value: object) -> object:
    if isinstance(value, tuple):
        return [_out(item) for item in cast(tuple[object, ...], value)]
    if isinstance(value, (Device, HeldModel)):
        row = [_out(getattr(value, field.name)) for field in fields(value)]
        return [clean(item) if isinstance(item, str) else item for item in row]
    if isinstance(value, (HeldStage, Epoch)):
        return [_out(getattr(value, field.name)) for field in fields(value)]
    return value


def _device(item: object) -> Device:
    kind, name, memory, free, cores = _row(item, 5)
    return Device(_word(kind), _name(name), _whole(memory), _whole(free), _whole(cores))


def _model(item: object) -> HeldModel:
    name, digest, size, layers, layer, embedding, head, kv, context, cuts = _row(item, MODEL_FIELDS)
    tensors, held = _row([*cast(list[object], item)[MODEL_FIELDS:], *NO_TENSORS], 2)
    counts = (_whole(value) for value in (size, layers, layer, embedding, head, kv, context))
    return HeldModel(
        _name(name),
        _word(digest),
        *counts,
        legal_cuts=_rows(cuts, CUTS_MAX, _whole),
        tensors=_whole(tensors),
        held=_rows(held, RANGES_MAX, _range),
    )


def _range(item: object) -> tuple[int, int]:
    start, end = _row(item, 2)
    return _whole(start), _whole(end)


def _stage(item: object) -> HeldStage:
    instance, epoch, stage, state, progress, ms_per_token, hop_in_ms, tokens = _row(item, 8)
    counter, node, n = _row(epoch, 3)
    minted = Epoch(_whole(counter), _word(node), _whole(n))
    times = (_real(progress), _real(ms_per_token), _real(hop_in_ms))
    return HeldStage(_word(instance), minted, _whole(stage), _word(state), *times, _whole(tokens))


def _row(item: object, width: int) -> list[object]:
    """The first `width` items of an array: a newer peer may have appended others."""
    if not isinstance(item, list) or len(cast(list[object], item)) < width:
        raise BadFrame("A snapshot with a malformed row.")
    return cast(list[object], item)[:width]


def _rows(value: object, limit: int, read: Callable[[object], T]) -> tuple[T, ...]:
    if not isinstance(value, list) or len(cast(list[object], value)) > limit:
        raise BadFrame("A snapshot with a malformed or too long list.")
    return tuple(read(item) for item in cast(list[object], value))


def _name(value: object) -> str:
    return _text(value, NAME_MAX_BYTES)


def _word(value: object) -> str:
    return _text(value, WORD_MAX_BYTES)


def _text(value: object, max_bytes: int) -> str:
    if not isinstance(value, str) or len(value.encode("utf-8", "replace")) > max_bytes:
        raise BadFrame("A snapshot with a malformed or too long text.")
    return clean(value, max_bytes)


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise BadFrame("A snapshot with a malformed number.")
    return value


def _real(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not (math.isfinite(value) and value >= 0):
        raise BadFrame("A snapshot with a malformed measure.")
    return float(value)


def _maybe(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise BadFrame("A snapshot with a malformed flag.")
    return value
