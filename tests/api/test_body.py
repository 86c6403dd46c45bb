"""Bodies from strangers: bounded in size, depth and number, and text that is text."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.api.body import BODY_MAX_BYTES, DEPTH_MAX, ITEMS_MAX, Fields, parse_object
from peerinfer.errors import BadParameter, BadRequest
from tests.api.conftest import Api

BAD = [
    b"",
    b"nonsense",
    b"[]",
    b'"text"',
    b"null",
    b"{",
    b'{"a": NaN}',
    b'{"a": -Infinity}',
    b'{"a": "\\ud800"}',
    b'{"\\udfff": 1}',
    b"\xff\xfe",
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a":' * 100_000,
    b"[" * 1_000_000,
    b'{"a":' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}",
    b'{"a": [' + b"0," * ITEMS_MAX + b"0]}",
]


@pytest.mark.parametrize("raw", BAD, ids=range(len(BAD)))
def test_bad_bodies_are_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_object(raw)
    assert str(caught.value).endswith(".")


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=20)))
def test_sound_objects_pass_unchanged(value: dict[str, object]) -> None:
    assert parse_object(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_give_an_object_or_a_sentence(raw: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert isinstance(parse_object(raw), dict)


@pytest.mark.parametrize("length", [BODY_MAX_BYTES + 1, None])
async def test_a_body_over_the_limit_is_413(api: Api, length: int | None) -> None:
    data = b" " * (BODY_MAX_BYTES + 1)

    async def chunks() -> object:
        for start in range(0, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    headers = {"Content-Type": "application/json"}
    body = data if length is not None else chunks()
    async with api.session.post("/v1/chat/completions", data=body, headers=headers) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == "body_too_large"


@pytest.mark.parametrize("value", [True, "1", [], 2.5, 1e300, float(2**70), 11, -1])
def test_whole_numbers_have_a_range(value: object) -> None:
    with pytest.raises(BadParameter) as caught:
        Fields({"n": value}).integer("n", 1, 0, 10)
    assert caught.value.param == "n"


@pytest.mark.parametrize("value", [True, "1", [], 10**400, 2.01, -0.1])
def test_numbers_have_a_range(value: object) -> None:
    with pytest.raises(BadParameter):
        Fields({"t": value}).number("t", 1.0, 0.0, 2.0)
