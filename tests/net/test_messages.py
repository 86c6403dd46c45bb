"""The message codec: strict about what comes in, tolerant of fields that a newer peer appended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.engine.base import Sampling
from peerinfer.errors import BadFrame
from peerinfer.net.frames import Epoch
from peerinfer.net.messages import Tag, decode, encode, registered
from peerinfer.packing import pack
from peerinfer.pipeline.messages import Credit, Ended, SampledRow, StepDone, StepTrouble, Stop, Submit, Token

EPOCH = Epoch(3, "aa" * 4, 5)
GOLDEN: list[tuple[object, str]] = [
    (
        Submit("r", "i", EPOCH, b"\x01\0\0\0", 5, Sampling(temperature=0.5, seed=7, logit_bias=((2, 1.0),)), (0,), 64),
        "9928a172a1699303a8616161616161616105c404010000000599cb3fe0000000000000"
        + "00cb3ff0000000000000cb0000000000000000cb3ff0000000000000cb0000000000000000cb000000000000000007"
        "919202cb3ff0000000000000910040",
    ),
    (Credit("r", "i", 16), "9429a172a16910"),
    (Stop("r", "i"), "932aa172a169"),
    (Token("r", 3, 42, "stop"), "952ba172032aa473746f70"),
    (Ended("r", "cancelled", "why"), "942ca172a963616e63656c6c6564a3776879"),
    (StepDone("i", EPOCH, 9, (SampledRow(1, 2, 3, ""),)), "952da1699303a8616161616161616105099194010203a0"),
    (StepTrouble("i", EPOCH, 9, 1, "desync", "why"), "972ea1699303a8616161616161616105" + "0901a6646573796e63a3776879"),
]


@pytest.mark.parametrize(("value", "golden"), GOLDEN, ids=lambda each: type(each).__name__)
def test_the_bytes_never_change(value: object, golden: str) -> None:
    assert encode(value).hex() == golden
    assert decode(bytes.fromhex(golden)) == value


def test_tags_are_unique_and_of_registered_classes() -> None:
    assert len({int(tag) for tag in Tag}) == len(list(Tag))
    assert all(tag in {int(known) for known in Tag} for tag in registered())


def test_fields_that_a_newer_peer_appended_are_ignored() -> None:
    assert decode(pack([int(Tag.STOP), "r", "i", "something new", 5])) == Stop("r", "i")


@pytest.mark.parametrize(
    "raw",
    [
        [],
        {},
        "text",
        [9999, "r"],
        [True],
        [int(Tag.STOP), "r"],
        [int(Tag.STOP), "r", 5],
        [int(Tag.CREDIT), "r", "i", True],
        [int(Tag.CREDIT), "r", "i", 2**63],
        [int(Tag.CREDIT), "r", "i", 1.0],
        [int(Tag.STEP_DONE), "i", [1, "a"], 3, []],
        [int(Tag.STEP_DONE), "i", [1, "a", 2], 3, [["x"]]],
        [int(Tag.STEP_DONE), "i", [1, "a", 2], 3, {}],
    ],
)
def test_what_does_not_fit_is_refused(raw: object) -> None:
    with pytest.raises(BadFrame):
        decode(pack(raw))


@given(st.binary(max_size=200))
def test_rubbish_is_refused_or_is_a_message(data: bytes) -> None:
    try:
        message = decode(data)
    except BadFrame:
        return
    assert type(message) in registered().values()
