"""Hostile files: a hundred of each malformed class, and thousands of mutated headers, meet only the reader's errors."""

from __future__ import annotations

import io
from collections import Counter
from random import Random

import pytest

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.gguf import parse_header
from tests.models import hostile_tensors, hostile_values
from tests.models.hostile import MALFORMED, right
from tests.models.mutated import CLAIMED, HEADER_MAX_BYTES, ORIGINALS, examine, mutated

SEEDS = 100
LARGE_SEEDS = 3
"""`scripts/mutate_gguf.py` tries as many of the large files as of the others."""
SENTENCE_MAX = 300


def refusal(data: bytes) -> str:
    """The sentence with which the reader refuses `data`."""
    with pytest.raises((CorruptModel, UnsupportedModel)) as raised:
        parse_header(io.BytesIO(data), len(data))
    assert type(raised.value) in (CorruptModel, UnsupportedModel)
    return str(raised.value)


def test_the_classes_are_as_many_as_promised() -> None:
    assert len(MALFORMED) >= 33
    assert {made.make.__module__ for made in MALFORMED.values()} == {hostile_values.__name__, hostile_tensors.__name__}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused_for_what_is_wrong_with_it(name: str) -> None:
    make, expected, large = MALFORMED[name]
    for seed in range(LARGE_SEEDS if large else SEEDS):
        sentence = refusal(make(Random(seed)))
        assert sentence.startswith("the file "), seed
        assert sentence.endswith("."), seed
        assert expected in sentence, seed
        assert len(sentence) <= SENTENCE_MAX, seed


def test_what_they_were_made_of_is_right() -> None:
    for seed in range(SEEDS):
        raw = right(Random(seed))
        data = raw.to_bytes()
        header = parse_header(io.BytesIO(data), len(data))
        assert len(header.metadata) == len(raw.keys)
        assert len(header.tensors) == len(raw.tensors)
        assert max(tensor.offset + tensor.n_bytes for tensor in header.tensors) == len(data)


def test_a_file_cut_at_any_byte_is_refused() -> None:
    for seed in range(3):
        data = right(Random(seed)).to_bytes()
        for end in range(len(data)):
            assert "ends" in refusal(data[:end]), (seed, end)


def test_the_headers_to_mutate_are_right_and_small() -> None:
    for original in ORIGINALS:
        assert len(original) <= HEADER_MAX_BYTES
        assert examine(original, CLAIMED) == "accepted"


def test_mutated_headers_raise_only_model_errors() -> None:
    outcomes = Counter(examine(*mutated(seed, index)) for seed in range(20) for index in range(1000))
    assert outcomes["accepted"] > 1000
    assert outcomes["refused by the facts"] > 1000
    assert outcomes["refused by the reader"] > 1000
