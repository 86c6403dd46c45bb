"""Manifests: chunks cover every tensor, the digest names all of it, and nothing else passes for one."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import CorruptModel
from peerinfer.models.manifest import (
    CHUNK_BYTES,
    Manifest,
    PartHeader,
    chunks_in,
    decode_manifest,
    encode_manifest,
)

SIZES = st.lists(st.integers(1, 3 * CHUNK_BYTES), min_size=1, max_size=20)


def manifest_of(sizes: list[int]) -> Manifest:
    count = sum(chunks_in(size) for size in sizes)
    digests = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(count))
    return Manifest((PartHeader(99, bytes(32)),), tuple(sizes), digests)


@given(SIZES)
def test_chunks_cover_every_tensor_once_and_in_order(sizes: list[int]) -> None:
    manifest = manifest_of(sizes)
    chunks = [manifest.chunk(number) for number in range(manifest.n_chunks)]
    for tensor, size in enumerate(sizes):
        own = [chunks[number] for number in manifest.chunks_of(tensor)]
        assert own == [chunk for chunk in chunks if chunk.tensor == tensor]
        assert sum(chunk.n_bytes for chunk in own) == size
        assert [chunk.offset for chunk in own] == list(range(0, size, CHUNK_BYTES))
        assert all(0 < chunk.n_bytes <= CHUNK_BYTES for chunk in own)
    for number in (-1, manifest.n_chunks):
        with pytest.raises(IndexError):
            manifest.chunk(number)


@given(SIZES)
def test_a_manifest_is_read_as_it_was_written(sizes: list[int]) -> None:
    manifest = manifest_of(sizes)
    assert decode_manifest(encode_manifest(manifest), manifest.digest) == manifest


@given(SIZES, st.data())
def test_a_manifest_with_any_other_byte_is_refused(sizes: list[int], data: st.DataObject) -> None:
    manifest = manifest_of(sizes)
    content = bytearray(encode_manifest(manifest))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptModel, match="damaged"):
        decode_manifest(bytes(content), manifest.digest)


@given(st.binary(max_size=300), st.booleans())
def test_bytes_that_are_named_rightly_but_are_no_manifest_are_refused(tail: bytes, has_magic: bool) -> None:
    content = (encode_manifest(manifest_of([5]))[:27] if has_magic else b"") + tail
    digest = hashlib.sha256(content).hexdigest()
    try:
        read = decode_manifest(content, digest)
    except CorruptModel:
        return
    assert encode_manifest(read) == content


@pytest.mark.parametrize(
    ("parts", "sizes", "digests"),
    [
        ((), (1,), bytes(32)),
        ((PartHeader(99, bytes(32)),), (), b""),
        ((PartHeader(0, bytes(32)),), (1,), bytes(32)),
        ((PartHeader(1 << 40, bytes(32)),), (1,), bytes(32)),
        ((PartHeader(99, bytes(31)),), (1,), bytes(32)),
        ((PartHeader(60 << 20, bytes(32)),) * 3, (1,), bytes(32)),
        ((PartHeader(99, bytes(32)),), (0,), b""),
        ((PartHeader(99, bytes(32)),), (1,), bytes(31)),
        ((PartHeader(99, bytes(32)),), (1,), bytes(64)),
        ((PartHeader(99, bytes(32)),), (1 << 62,), bytes(32)),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(
    parts: tuple[PartHeader, ...], sizes: tuple[int, ...], digests: bytes
) -> None:
    with pytest.raises(CorruptModel):
        Manifest(parts, sizes, digests)


def test_a_chunk_is_known_by_its_digest() -> None:
    manifest = Manifest((PartHeader(99, bytes(32)),), (5,), hashlib.sha256(b"hello").digest())
    assert manifest.is_chunk(0, b"hello")
    assert not manifest.is_chunk(0, b"hellp")
    assert manifest.n_bytes == 5
