"""The snapshot's payload: round trip, golden bytes, limits, and what a newer or hostile peer may send."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import BadFrame
from peerinfer.gossip.envelope import PAYLOAD_MAX_BYTES
from peerinfer.gossip.snapshot import (
    DEVICES_MAX,
    MODELS_MAX,
    STAGES_MAX,
    Device,
    EngineSpeed,
    HeldModel,
    HeldStage,
    LinkFigure,
    OwnerPolicy,
    Snapshot,
    clean,
)
from peerinfer.gossip.snapshot_codec import decode_snapshot, encode_snapshot
from peerinfer.net.frames import Epoch
from peerinfer.packing import pack, unpack

MODEL = HeldModel(
    "tiny",
    "d" * 64,
    900,
    5,
    100,
    40,
    60,
    8,
    4096,
    (1, 2, 3, 4),
    55,
    ((0, 11), (44, 55)),
    "llama",
    "Q4_K_M",
    576,
    130,
    75,
)
STAGE = HeldStage("ab" * 16, Epoch(5, "cd" * 16, 2), 1, "ready", 1.0, 6.5, 0.25, 48, 0.75)
OLD_GPU = ("cuda", "A GPU", 24_000, 20_000)
GPU = Device("cuda", "A GPU", 24_000, 20_000, 0, 0.5, -3.5, 180.0, 1500.0, "hot", "8.9", "570.1")
FULL = Snapshot(
    name="kitchen",
    version="0.1.0",
    memory_bytes=16_000_000_000,
    memory_free_bytes=9_000_000_000,
    devices=(Device("cpu", "A processor", cores=8), GPU),
    on_battery=False,
    engines=("llama.cpp",),
    models=(MODEL,),
    stages=(STAGE,),
    disk_free_bytes=7_000_000_000,
    battery_percent=81.5,
    lid_closed=False,
    user_active=True,
    thermal="fair",
    swap_used_bytes=4096,
    troubles=(("nvidia", "The driver is gone."),),
    policy=OwnerPolicy(keep_light=True, memory_limit_bytes=8_000_000_000),
    links=(LinkFigure("cd" * 16, 350.5, 118e6, is_stale=True),),
    speeds=(EngineSpeed("llama.cpp", "cpu", "llama", "Q4_1", 9e9, 35.0, 900.0, 4e10, 3, 11),),
    accelerators=("cuda",),
    unable=(("mlx", "phi3"),),
)
OLDER = bytes.fromhex(
    "89a46e616d65a76b69746368656ea776657273696f6ea5302e312e30ac6d656d6f72795f6279746573cf00000003b9ac"
    "a000b16d656d6f72795f667265655f6279746573cf0000000218711a00a7646576696365739295a3637075ab41207072"
    "6f636573736f7200000895a463756461a54120475055cd5dc0cd4e2000aa6f6e5f62617474657279c2a7656e67696e65"
    "7391a96c6c616d612e637070a66d6f64656c73919aa474696e79d9406464646464646464646464646464646464646464"
    "6464646464646464646464646464646464646464646464646464646464646464646464646464646464646464cd038405"
    "64283c08cd10009401020304a67374616765739198d92061626162616261626162616261626162616261626162616261"
    "626162616261629305d92063646364636463646364636463646364636463646364636463646364636463640201a57265"
    "616479cb3ff0000000000000cb401a000000000000cb3fd000000000000030"
)
"""As the first version told it: models without tensors, no room on the disk."""
SECOND = bytes.fromhex(
    "8aa46e616d65a76b69746368656ea776657273696f6ea5302e312e30ac6d656d6f72795f6279746573cf00000003b9ac"
    "a000b16d656d6f72795f667265655f6279746573cf0000000218711a00a7646576696365739295a3637075ab41207072"
    "6f636573736f7200000895a463756461a54120475055cd5dc0cd4e2000aa6f6e5f62617474657279c2a7656e67696e65"
    "7391a96c6c616d612e637070a66d6f64656c73919ca474696e79d9406464646464646464646464646464646464646464"
    "6464646464646464646464646464646464646464646464646464646464646464646464646464646464646464cd038405"
    "64283c08cd10009401020304379292000b922c37a67374616765739198d9206162616261626162616261626162616261"
    "6261626162616261626162616261629305d9206364636463646364636463646364636463646364636463646364636463"
    "6463640201a57265616479cb3ff0000000000000cb401a000000000000cb3fd000000000000030af6469736b5f667265"
    "655f6279746573cf00000001a13b8600"
)
"""As it was told before devices said how they do."""
THIRD = bytes.fromhex(
    "de0014a46e616d65a76b69746368656ea776657273696f6ea5302e312e30ac6d656d6f72795f6279746573cf00000003"
    "b9aca000b16d656d6f72795f667265655f6279746573cf0000000218711a00a764657669636573929ca3637075ab4120"
    "70726f636573736f72000008c0c0c0c0a0a0a09ca463756461a54120475055cd5dc0cd4e2000cb3fe0000000000000cb"
    "c00c000000000000cb4066800000000000cb4097700000000000a3686f74a3382e39a53537302e31aa6f6e5f62617474"
    "657279c2a7656e67696e657391a96c6c616d612e637070a66d6f64656c73919fa474696e79d940646464646464646464"
    "646464646464646464646464646464646464646464646464646464646464646464646464646464646464646464646464"
    "64646464646464cd03840564283c08cd10009401020304379292000b922c37a56c6c616d61a651345f4b5f4dcd0240a6"
    "7374616765739198d92061626162616261626162616261626162616261626162616261626162616261629305d9206364"
    "6364636463646364636463646364636463646364636463646364636463640201a57265616479cb3ff0000000000000cb"
    "401a000000000000cb3fd000000000000030af6469736b5f667265655f6279746573cf00000001a13b8600af62617474"
    "6572795f70657263656e74cb4054600000000000aa6c69645f636c6f736564c2ab757365725f616374697665c3a77468"
    "65726d616ca466616972af737761705f757365645f6279746573cd1000a874726f75626c65739192a66e7669646961b3"
    "5468652064726976657220697320676f6e652ea6706f6c69637994c3c2cf00000001dcd65000c2a56c696e6b739194d9"
    "206364636463646364636463646364636463646364636463646364636463646364cb4075e80000000000cb419c222600"
    "000000c3a67370656564739199a96c6c616d612e637070a3637075a56c6c616d61a451345f31cb4200c388d0000000cb"
    "4041800000000000cb408c200000000000cb4222a05f2000000003ac616363656c657261746f727391a463756461"
)
"""As it was before MLX."""
FOURTH = bytes.fromhex(
    "de0015a46e616d65a76b69746368656ea776657273696f6ea5302e312e30ac6d656d6f72795f6279746573cf00000003"
    "b9aca000b16d656d6f72795f667265655f6279746573cf0000000218711a00a764657669636573929ca3637075ab4120"
    "70726f636573736f72000008c0c0c0c0a0a0a09ca463756461a54120475055cd5dc0cd4e2000cb3fe0000000000000cb"
    "c00c000000000000cb4066800000000000cb4097700000000000a3686f74a3382e39a53537302e31aa6f6e5f62617474"
    "657279c2a7656e67696e657391a96c6c616d612e637070a66d6f64656c7391dc0011a474696e79d94064646464646464"
    "646464646464646464646464646464646464646464646464646464646464646464646464646464646464646464646464"
    "646464646464646464cd03840564283c08cd10009401020304379292000b922c37a56c6c616d61a651345f4b5f4dcd02"
    "40cc824ba67374616765739198d920616261626162616261626162616261626162616261626162616261626162616293"
    "05d92063646364636463646364636463646364636463646364636463646364636463640201a57265616479cb3ff00000"
    "00000000cb401a000000000000cb3fd000000000000030af6469736b5f667265655f6279746573cf00000001a13b8600"
    "af626174746572795f70657263656e74cb4054600000000000aa6c69645f636c6f736564c2ab757365725f6163746976"
    "65c3a7746865726d616ca466616972af737761705f757365645f6279746573cd1000a874726f75626c65739192a66e76"
    "69646961b35468652064726976657220697320676f6e652ea6706f6c69637994c3c2cf00000001dcd65000c2a56c696e"
    "6b739194d9206364636463646364636463646364636463646364636463646364636463646364cb4075e80000000000cb"
    "419c222600000000c3a67370656564739199a96c6c616d612e637070a3637075a56c6c616d61a451345f31cb4200c388"
    "d0000000cb4041800000000000cb408c200000000000cb4222a05f2000000003ac616363656c657261746f727391a463"
    "756461a6756e61626c659192a36d6c78a470686933"
)
"""As it was before a stage told its wait."""
GOLDEN = bytes.fromhex(
    "de0015a46e616d65a76b69746368656ea776657273696f6ea5302e312e30ac6d656d6f72795f6279746573cf00000003"
    "b9aca000b16d656d6f72795f667265655f6279746573cf0000000218711a00a764657669636573929ca3637075ab4120"
    "70726f636573736f72000008c0c0c0c0a0a0a09ca463756461a54120475055cd5dc0cd4e2000cb3fe0000000000000cb"
    "c00c000000000000cb4066800000000000cb4097700000000000a3686f74a3382e39a53537302e31aa6f6e5f62617474"
    "657279c2a7656e67696e657391a96c6c616d612e637070a66d6f64656c7391dc0011a474696e79d94064646464646464"
    "646464646464646464646464646464646464646464646464646464646464646464646464646464646464646464646464"
    "646464646464646464cd03840564283c08cd10009401020304379292000b922c37a56c6c616d61a651345f4b5f4dcd02"
    "40cc824ba67374616765739199d920616261626162616261626162616261626162616261626162616261626162616293"
    "05d92063646364636463646364636463646364636463646364636463646364636463640201a57265616479cb3ff00000"
    "00000000cb401a000000000000cb3fd000000000000030cb3fe8000000000000af6469736b5f667265655f6279746573"
    "cf00000001a13b8600af626174746572795f70657263656e74cb4054600000000000aa6c69645f636c6f736564c2ab75"
    "7365725f616374697665c3a7746865726d616ca466616972af737761705f757365645f6279746573cd1000a874726f75"
    "626c65739192a66e7669646961b35468652064726976657220697320676f6e652ea6706f6c69637994c3c2cf00000001"
    "dcd65000c2a56c696e6b739194d9206364636463646364636463646364636463646364636463646364636463646364cb"
    "4075e80000000000cb419c222600000000c3a6737065656473919aa96c6c616d612e637070a3637075a56c6c616d61a4"
    "51345f31cb4200c388d0000000cb4041800000000000cb408c200000000000cb4222a05f20000000030bac616363656c"
    "657261746f727391a463756461a6756e61626c659192a36d6c78a470686933"
)


RAW: Any = unpack(GOLDEN, PAYLOAD_MAX_BYTES, maps=True)


def changed(**values: object) -> bytes:
    return pack({**RAW, **values})


def test_the_bytes_on_the_wire_stay_as_they_are() -> None:
    assert encode_snapshot(FULL) == GOLDEN
    assert decode_snapshot(GOLDEN) == FULL
    told = {
        name: getattr(FULL, name) for name in ("name", "version", "memory_bytes", "memory_free_bytes", "on_battery")
    }
    fifth = replace(FULL, speeds=(replace(FULL.speeds[0], size=0),))
    before_sizes = changed(speeds=[row[:9] for row in RAW["speeds"]])
    assert decode_snapshot(before_sizes) == fifth
    fourth = replace(fifth, stages=(replace(STAGE, wait_ms=0.0),))
    assert decode_snapshot(FOURTH) == fourth
    plain = Snapshot(**told, engines=FULL.engines, stages=fourth.stages, devices=(FULL.devices[0], Device(*OLD_GPU)))
    third = replace(MODEL, mlx_layer_bytes=0, mlx_head_bytes=0)
    assert decode_snapshot(THIRD) == replace(fourth, models=(third,), unable=())
    second = replace(third, architecture="", quantisation="", width=0)
    assert decode_snapshot(SECOND) == replace(plain, models=(second,), disk_free_bytes=7_000_000_000)
    older = replace(second, tensors=0, held=())
    assert decode_snapshot(OLDER) == replace(plain, models=(older,))
    assert older.is_whole
    assert not MODEL.is_whole


def test_a_small_snapshot_needs_few_keys() -> None:
    payload = pack({"name": "a", "version": "1", "memory_bytes": 2, "memory_free_bytes": 1})
    assert decode_snapshot(payload) == Snapshot("a", "1", 2, 1)


def test_what_a_newer_peer_adds_is_ignored() -> None:
    models, stages = [[*RAW["models"][0], "more"]], [[*RAW["stages"][0], "more"]]
    assert decode_snapshot(changed(models=models, stages=stages, colour="blue", nested={"a": [1]})) == FULL


@pytest.mark.parametrize(
    "values",
    [
        {"name": 5},
        {"name": "x" * 129},
        {"memory_bytes": -1},
        {"memory_bytes": 1.5},
        {"memory_bytes": True},
        {"memory_free_bytes": 2**63},
        {"on_battery": 1},
        {"devices": "cpu"},
        {"devices": [["cpu"]]},
        {"devices": [["cpu", "x", 0, 0, 8]] * (DEVICES_MAX + 1)},
        {"engines": [1]},
        {"models": [["tiny", "d" * 65, 1, 1, 1, 1, 1, 1, 1, []]]},
        {"models": [["tiny", "d" * 64, 1, 1, 1, 1, 1, 1, 1, None]]},
        {"models": [["tiny", "d" * 64, 1, 1, 1, 1, 1, 1, 1, [], -1, []]]},
        {"models": [["tiny", "d" * 64, 1, 1, 1, 1, 1, 1, 1, [], 5, [[1]]]]},
        {"models": [["tiny", "d" * 64, 1, 1, 1, 1, 1, 1, 1, [], 5, [[0, 1]] * 65]]},
        {"disk_free_bytes": -1},
        {"speeds": [["e", "cpu", "a", "q", 1.0, 1.0, 1.0, 1.0, 1, -1]]},
        {"stages": [["id", [1, "n"], 0, "ready", 0, 0, 0, 0]]},
        {"stages": [["id", [1, "n", 0], 0, "ready", float("nan"), 0, 0, 0]]},
        {"stages": [["id", [1, "n", 0], 0, "ready", -0.5, 0, 0, 0]]},
        {"stages": [["id", [1, "n", 0], 0, "ready", 0, 0, 0, 0, -0.5]]},
        {"stages": [["id", [1, "n", 0], 0, "ready", 0, 0, 0, 0, None]]},
    ],
)
def test_a_malformed_value_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(BadFrame):
        decode_snapshot(changed(**values))


@pytest.mark.parametrize("payload", [b"", b"\xc1", pack([1]), pack({"name": "a"}), pack({1: 2})])
def test_what_is_no_snapshot_is_refused(payload: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_snapshot(payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_snapshot_or_refused(payload: bytes) -> None:
    try:
        decode_snapshot(payload)
    except BadFrame:
        return
    raise AssertionError("random bytes made a snapshot")


def test_the_largest_snapshot_fits_and_decodes() -> None:
    wide = "é" * 200
    model = replace(MODEL, name=wide, legal_cuts=tuple(range(1, 500)))
    stage = replace(STAGE, epoch=Epoch(2**62, "c" * 32, 2**62))
    huge = replace(
        FULL,
        name=wide,
        devices=(Device("cuda", wide, 2**62, 2**62, 64),) * 99,
        models=(model,) * (MODELS_MAX * 2),
        stages=(stage,) * (STAGES_MAX * 2),
    )
    payload = encode_snapshot(huge)
    assert len(payload) <= PAYLOAD_MAX_BYTES
    read = decode_snapshot(payload)
    assert len(read.models) > 10
    assert len(read.stages) == STAGES_MAX


@given(st.text(max_size=300), st.integers(0, 140))
def test_a_cleaned_text_is_printable_and_short(text: str, max_bytes: int) -> None:
    kept = clean(text, max_bytes)
    assert len(kept.encode()) <= max_bytes
    assert kept.isprintable()
