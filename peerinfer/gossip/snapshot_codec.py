"""A snapshot as a msgpack map: written within the limits, read with distrust."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Final, TypeVar, cast

from peerinfer.errors import BadFrame
from peerinfer.gossip.envelope import PAYLOAD_MAX_BYTES
from peerinfer.gossip.snapshot import (
    CUTS_MAX,
    DEVICES_MAX,
    ENGINES_MAX,
    FREE_POLICY,
    LINKS_MAX,
    MODELS_MAX,
    NAME_MAX_BYTES,
    NUMBER_MAX,
    RANGES_MAX,
    SPEEDS_MAX,
    STAGES_MAX,
    TROUBLES_MAX,
    UNABLE_MAX,
    WORD_MAX_BYTES,
    Device,
    EngineSpeed,
    HeldModel,
    HeldStage,
    LinkFigure,
    OwnerPolicy,
    Snapshot,
    clean,
)
from peerinfer.net.frames import Epoch
from peerinfer.packing import pack, unpack

REASON_MAX_BYTES: Final = 256
"""A sentence on what a probe, or a device, lacks."""
DEVICE_FIELDS: Final = 5
MODEL_FIELDS: Final = 10
STAGE_FIELDS: Final = 8
"""Of a row as the first version had it; what was appended later may be missing in that of an older peer."""
NEW_OF_DEVICE: Final[tuple[object, ...]] = (None, None, None, None, "", "", "")
NEW_OF_MODEL: Final[tuple[object, ...]] = (0, [], "", "", 0, 0, 0)
NEW_OF_STAGE: Final[tuple[object, ...]] = (0.0,)

T = TypeVar("T")


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
        troubles=tuple((clean(probe), clean(why, REASON_MAX_BYTES)) for probe, why in snapshot.troubles[:TROUBLES_MAX]),
        links=snapshot.links[:LINKS_MAX],
        speeds=snapshot.speeds[:SPEEDS_MAX],
        unable=tuple((clean(engine), clean(name)) for engine, name in snapshot.unable[:UNABLE_MAX]),
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
            disk_free_bytes=_known(values.get("disk_free_bytes"), _whole),
            battery_percent=_known(values.get("battery_percent"), _real),
            lid_closed=_maybe(values.get("lid_closed")),
            user_active=_maybe(values.get("user_active")),
            thermal=_word(values.get("thermal", "")),
            swap_used_bytes=_known(values.get("swap_used_bytes"), _whole),
            troubles=_rows(values.get("troubles", []), TROUBLES_MAX, _trouble),
            policy=_policy(values["policy"]) if "policy" in values else FREE_POLICY,
            links=_rows(values.get("links", []), LINKS_MAX, _link),
            speeds=_rows(values.get("speeds", []), SPEEDS_MAX, _speed),
            accelerators=_rows(values.get("accelerators", []), DEVICES_MAX, _word),
            unable=_rows(values.get("unable", []), UNABLE_MAX, _inability),
        )
    except KeyError as error:
        raise BadFrame(f"A snapshot without {error}.") from None


def _map_out(snapshot: Snapshot) -> dict[str, object]:
    return {field.name: _out(getattr(snapshot, field.name)) for field in fields(snapshot)}


def _out(value: object) -> object:
    if isinstance(value, tuple):
        return [_out(item) for item in cast(tuple[object, ...], value)]
    if isinstance(value, (Device, HeldModel, EngineSpeed)):
        row = [_out(getattr(value, field.name)) for field in fields(value)]
        return [clean(item) if isinstance(item, str) else item for item in row]
    if isinstance(value, (HeldStage, Epoch, LinkFigure, OwnerPolicy)):
        return [_out(getattr(value, field.name)) for field in fields(value)]
    return value


def _device(item: object) -> Device:
    kind, name, memory, free, cores = _row(item, DEVICE_FIELDS)
    use, celsius, watts, clock, throttled, capability, driver = _appended(item, DEVICE_FIELDS, NEW_OF_DEVICE)
    return Device(
        _word(kind),
        _name(name),
        _whole(memory),
        _whole(free),
        _whole(cores),
        utilisation=_known(use, _real),
        temperature_c=_known(celsius, _signed),
        power_w=_known(watts, _real),
        clock_mhz=_known(clock, _real),
        throttled=_name(throttled),
        capability=_name(capability),
        driver=_name(driver),
    )


def _model(item: object) -> HeldModel:
    name, digest, size, layers, layer, embedding, head, kv, context, cuts = _row(item, MODEL_FIELDS)
    tensors, held, architecture, quantisation, width, mlx_layer, mlx_head = _appended(item, MODEL_FIELDS, NEW_OF_MODEL)
    counts = (_whole(value) for value in (size, layers, layer, embedding, head, kv, context))
    return HeldModel(
        _name(name),
        _word(digest),
        *counts,
        legal_cuts=_rows(cuts, CUTS_MAX, _whole),
        tensors=_whole(tensors),
        held=_rows(held, RANGES_MAX, _range),
        architecture=_name(architecture),
        quantisation=_name(quantisation),
        width=_whole(width),
        mlx_layer_bytes=_whole(mlx_layer),
        mlx_head_bytes=_whole(mlx_head),
    )


def _range(item: object) -> tuple[int, int]:
    start, end = _row(item, 2)
    return _whole(start), _whole(end)


def _stage(item: object) -> HeldStage:
    instance, epoch, stage, state, progress, ms_per_token, hop_in_ms, tokens = _row(item, STAGE_FIELDS)
    (wait_ms,) = _appended(item, STAGE_FIELDS, NEW_OF_STAGE)
    counter, node, n = _row(epoch, 3)
    minted = Epoch(_whole(counter), _word(node), _whole(n))
    times = (_real(progress), _real(ms_per_token), _real(hop_in_ms))
    return HeldStage(
        _word(instance), minted, _whole(stage), _word(state), *times, tokens=_whole(tokens), wait_ms=_real(wait_ms)
    )


def _trouble(item: object) -> tuple[str, str]:
    probe, reason = _row(item, 2)
    return _name(probe), _text(reason, REASON_MAX_BYTES)


def _inability(item: object) -> tuple[str, str]:
    engine, architecture = _row(item, 2)
    return _name(engine), _name(architecture)


def _policy(item: object) -> OwnerPolicy:
    light, battery, limit, exclude = _row(item, 4)
    return OwnerPolicy(_flag(light), _flag(battery), _whole(limit), _flag(exclude))


def _link(item: object) -> LinkFigure:
    peer, rtt_us, bandwidth, stale = _row(item, 4)
    return LinkFigure(_word(peer), _real(rtt_us), _real(bandwidth), _flag(stale))


def _speed(item: object) -> EngineSpeed:
    engine, device, architecture, quantisation, *figures, samples = _row(item, 9)
    words = (_name(engine), _word(device), _name(architecture), _name(quantisation))
    (size,) = _appended(item, 9, (0,))
    return EngineSpeed(*words, *(_real(each) for each in figures), samples=_whole(samples), size=_whole(size))


def _appended(item: object, known: int, missing: tuple[object, ...]) -> list[object]:
    """What stands behind the first `known` items of a row, with `missing` for what an older peer did not write."""
    items = cast(list[object], item)[known:]
    return [*items[: len(missing)], *missing[len(items) :]]


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


def _signed(value: object) -> float:
    """As `_real`, below zero too: a cold room."""
    return -_real(-value) if isinstance(value, (int, float)) and value < 0 else _real(value)


def _known(value: object, read: Callable[[object], T]) -> T | None:
    return None if value is None else read(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise BadFrame("A snapshot with a malformed flag.")
    return value


def _maybe(value: object) -> bool | None:
    return _known(value, _flag)
