"""Headers of safetensors files, sound and hostile: nothing but a sentence comes of a bad one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peerinfer.errors import CorruptModel, ModelError, UnsupportedModel
from peerinfer.models import safetensors
from peerinfer.models.safetensors import DTYPE_BYTES, read_safetensors

SOUND: dict[str, Any] = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def write(path: Path, header: object, data: bytes = bytes(64)) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "mlx"},
        "a": SOUND,
        "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
    }
    path = write(tmp_path / "model.safetensors", header)
    start = 8 + len(json.dumps(header))
    found = read_safetensors(path)
    assert [(t.dtype, t.shape, t.offset, t.n_bytes) for t in found.values()] == [
        ("F32", (2, 3), start, 24),
        ("BF16", (), start + 24, 2),
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"shape": [2, 4]}, "more or less bytes"),
        ({"shape": [-2, -3]}, "cannot be"),
        ({"shape": [True, 24]}, "cannot be"),
        ({"shape": "23"}, "cannot be"),
        ({"shape": [1] * 9}, "cannot be"),
        ({"shape": [1 << 41, 0]}, "cannot be"),
        ({"shape": [2.0, 3]}, "cannot be"),
        ({"data_offsets": [0, 24, 30]}, "cannot be"),
        ({"data_offsets": [-24, 0]}, "cannot be"),
        ({"data_offsets": [24, 0]}, "does not lie inside"),
        ({"data_offsets": [48, 72]}, "does not lie inside"),
        ({"data_offsets": [1 << 80, (1 << 80) + 24]}, "does not lie inside"),
        ({"dtype": 7}, "no type"),
        ({"dtype": None}, "no type"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    with pytest.raises(CorruptModel, match=why):
        read_safetensors(write(tmp_path / "model.safetensors", {"a": SOUND | change}))


def test_a_type_that_is_not_known_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="F4"):
        read_safetensors(write(tmp_path / "model.safetensors", {"a": SOUND | {"dtype": "F4"}}))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{",
        b"\xff{}",
        b'{"a":1}',
        b'{"":{}}',
        b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"\\u001b[2J": {}}',
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(CorruptModel) as caught:
        read_safetensors(write(tmp_path / "model.safetensors", header))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("raw", [b"", b"1234567", b"\xff" * 8, b"\xff" * 8 + b"{}", (3).to_bytes(8, "little") + b"{}"])
def test_a_file_that_ends_within_its_header_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    with pytest.raises(CorruptModel, match="ends within"):
        read_safetensors(path)


def test_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors, "HEADER_MAX_BYTES", 200)
    with pytest.raises(CorruptModel, match="over the limit of 200"):
        read_safetensors(write(tmp_path / "a", b" " * 201))
    monkeypatch.setattr(safetensors, "TENSORS_MAX", 1)
    with pytest.raises(CorruptModel, match="over the limit of 1"):
        read_safetensors(write(tmp_path / "b", {"a": SOUND, "b": SOUND}))


def test_a_long_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match="256 bytes"):
        read_safetensors(write(tmp_path / "model.safetensors", {"é" * 129: SOUND}))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file"):
        read_safetensors(tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_safetensors(tmp_path / "absent")
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ModelError, match="no file"):
            read_safetensors(tmp_path / "pipe")


numbers = st.one_of(st.integers(-4, 80), st.integers(), st.booleans(), st.none(), st.floats(), st.text(max_size=3))
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.one_of(st.sampled_from(sorted(DTYPE_BYTES)), numbers),
        "shape": st.one_of(st.lists(numbers, max_size=10), numbers),
        "data_offsets": st.one_of(st.lists(numbers, max_size=3), numbers),
    },
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    header=st.dictionaries(st.text(max_size=8), st.one_of(entries, numbers), max_size=4), data=st.binary(max_size=64)
)
def test_what_is_read_lies_inside_the_file(tmp_path: Path, header: dict[str, Any], data: bytes) -> None:
    path = write(tmp_path / "model.safetensors", header, data)
    try:
        found = read_safetensors(path)
    except ModelError:
        return
    size = path.stat().st_size
    for tensor in found.values():
        assert 8 <= tensor.offset <= tensor.offset + tensor.n_bytes <= size


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(raw=st.binary(max_size=200), length=st.integers(0, 220))
def test_any_bytes_give_a_model_error_or_tensors(tmp_path: Path, raw: bytes, length: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + raw)
    sentence = ""
    try:
        read_safetensors(path)
    except ModelError as error:
        sentence = str(error)
    assert sentence.isprintable()
