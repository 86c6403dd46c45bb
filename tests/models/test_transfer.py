"""What nodes without a model's file fetch: just their layers, verified, from whoever has them, whatever happens."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from peerinfer.errors import ModelError, UnsupportedModel
from peerinfer.models import fingerprint, manifest
from peerinfer.models import library as library_module
from peerinfer.models.exchange import Wanted
from peerinfer.models.gguf import TensorInfo, read_header
from peerinfer.models.gguf_cursor import StringArray
from peerinfer.models.shards import stage_key
from tests.cutting import cut
from tests.models.house import LAYERS, house_of, model_on, stage
from tests.net.mesh import until
from tests.splitting import split_model
from tests.tiny import write_tiny_llama

pytestmark = pytest.mark.usefixtures("quick_and_small")


@pytest.mark.parametrize("tied", [True, False])
async def test_each_node_fetches_its_range_and_not_a_byte_more(tmp_path: Path, tied: bool) -> None:
    async with house_of(tmp_path, 3) as (source, second, third):
        entry = await model_on(source, tied=tied)
        key = stage_key(entry.digest, 1, 3, LAYERS)
        reference = cut(entry.paths[0], key, tmp_path / "reference")
        assert (await stage(second, entry, 1, 3)).read_bytes() == reference.read_bytes()
        layers = sum(t.n_bytes for t in read_header(entry.paths[0]).tensors if t.name.startswith(("blk.1.", "blk.2.")))
        assert source.given[Wanted.CHUNKS] == layers
        assert second.given[Wanted.CHUNKS] == 0
        last = await stage(third, entry, 3, LAYERS)
        again = cut(entry.paths[0], stage_key(entry.digest, 3, LAYERS, LAYERS), tmp_path / "reference")
        assert last.read_bytes() == again.read_bytes()


async def test_a_first_stage_fetches_its_table_and_a_gateway_its_vocabulary(tmp_path: Path) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        entry = await model_on(source)
        files = await other.warehouse.stage_files("h", entry.digest, "tiny", (0, 2), lambda _: None)
        assert (files.kind, files.facts) == ("trunk", entry.facts)
        (table,) = read_header(files.embedding).tensors
        assert table.name == "token_embd.weight"
        given = source.given[Wanted.CHUNKS]
        vocabulary = await other.warehouse.vocabulary_file(entry.digest, "tiny")
        assert source.given[Wanted.CHUNKS] == given
        tokens = read_header(vocabulary).metadata["tokenizer.ggml.tokens"]
        assert isinstance(tokens, StringArray)
        assert tokens[:3] == ("<unk>", "<s>", "</s>")


async def test_one_download_serves_the_house_and_a_second_shard_reuses_the_first(tmp_path: Path) -> None:
    async with house_of(tmp_path, 3) as (source, second, third):
        entry = await model_on(source)
        await stage(second, entry, 1, 4)
        given = source.given[Wanted.CHUNKS]
        await stage(second, entry, 2, 4)
        await stage(second, entry, 1, 4)
        assert source.given[Wanted.CHUNKS] == given
        await source.net.close()
        await until(lambda: not third.net.board.is_connected(source.net.id))
        await stage(third, entry, 2, 4)
        assert second.given[Wanted.CHUNKS] > 0


async def test_when_the_source_dies_half_way_the_rest_comes_from_another_holder(tmp_path: Path) -> None:
    async with house_of(tmp_path, 3) as (source, second, third):
        entry = await model_on(source)
        await stage(second, entry, 0, LAYERS)
        dead: list[asyncio.Task[None]] = []

        def die(piece: bytes, number: int) -> bytes:
            if number == 40 and not dead:
                dead.append(asyncio.get_running_loop().create_task(source.net.close()))
            return piece

        source.pieces, source.spoil = 0, die
        reference = cut(entry.paths[0], stage_key(entry.digest, 0, 5, LAYERS), tmp_path / "reference")
        assert (await stage(third, entry, 0, 5)).read_bytes() == reference.read_bytes()
        assert dead
        await dead[0]


async def test_a_transfer_that_was_cut_is_resumed_where_it_was(tmp_path: Path) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        entry = await model_on(source)
        half = asyncio.Event()

        def stop(piece: bytes, number: int) -> bytes:
            if number == 30:
                half.set()
            return piece

        source.spoil = stop
        loading = asyncio.create_task(stage(other, entry, 0, 5))
        await half.wait()
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        assert not list((other.home / "shards").glob("*.gguf"))
        (partial,) = (other.home / "shards").glob(".*.partial")
        assert partial.exists()
        before = source.given[Wanted.CHUNKS]
        reference = cut(entry.paths[0], stage_key(entry.digest, 0, 5, LAYERS), tmp_path / "reference")
        assert (await stage(other, entry, 0, 5)).read_bytes() == reference.read_bytes()
        table = read_header(entry.paths[0]).by_name["token_embd.weight"].n_bytes
        again = source.given[Wanted.CHUNKS] - before - table
        assert again < reference.stat().st_size * 0.9


@pytest.mark.parametrize("every", [1, 7])
async def test_no_damaged_chunk_is_ever_taken(tmp_path: Path, every: int) -> None:
    """One node that always, or sometimes, sends flipped bits: what can be had comes from the other, or nothing does."""
    async with house_of(tmp_path, 2) as (source, other):
        entry = await model_on(source)
        source.spoil = lambda piece, number: bytes([piece[0] ^ 1]) + piece[1:] if number % every == 0 else piece
        with pytest.raises(ModelError, match="are missing here"):
            await stage(other, entry, 1, 3)
        assert not list((other.home / "shards").glob("*.gguf"))
        source.spoil = lambda piece, _: piece
        reference = cut(entry.paths[0], stage_key(entry.digest, 1, 3, LAYERS), tmp_path / "reference")
        assert (await stage(other, entry, 1, 3)).read_bytes() == reference.read_bytes()


async def test_a_node_with_a_model_in_several_files_loads_it_from_them(tmp_path: Path) -> None:
    async with house_of(tmp_path, 1) as (source,):
        single = write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS, width=128)
        parts = split_model(single, source.home / "models")
        entry = await source.store.find("tiny")
        files = await source.warehouse.stage_files("h", entry.digest, "tiny", (0, LAYERS), lambda _: None)
        assert (files.kind, files.shard) == ("whole", parts[0])


async def test_a_model_in_several_files_travels_like_one_in_one(tmp_path: Path) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        single = write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS, width=128)
        parts = split_model(single, source.home / "models")
        entry = await source.store.find("tiny")
        assert len(parts) > 3
        assert entry.paths == tuple(parts)
        for layers in ((1, 3), (3, LAYERS), (0, LAYERS)):
            key = stage_key(entry.digest, *layers, LAYERS)
            files = await other.warehouse.stage_files("h", entry.digest, "tiny", layers, lambda _: None)
            _assert_same_weights(files.shard, single, layers[0], key.kind)
        assert "split.count" not in read_header(files.shard).metadata
        parts[2].unlink()
        (broken,) = (await source.store.listing()).broken
        assert parts[2].name in broken.reason


def _assert_same_weights(shard: Path, single: Path, first_layer: int, kind: str) -> None:
    plain = read_header(single)
    for info in read_header(shard).tensors:
        name = _original(info.name, first_layer)
        if kind != "trunk" or name.startswith("blk."):
            assert _content(shard, info) == _content(single, plain.by_name[name])


def _original(name: str, first_layer: int) -> str:
    if not name.startswith("blk."):
        return name
    _, layer, rest = name.split(".", 2)
    return f"blk.{int(layer) + first_layer}.{rest}"


def _content(path: Path, info: TensorInfo) -> bytes:
    return path.read_bytes()[info.offset : info.offset + info.n_bytes]


async def test_a_model_that_nobody_has_is_said_to_be_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "ASK_TIMES", 2)
    async with house_of(tmp_path, 2) as (one, _):
        with pytest.raises(ModelError, match="no node that is up does"):
            await one.warehouse.vocabulary_file("0" * 64, "nothing")


async def test_a_range_that_may_be_no_stage_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        entry = await model_on(source)
        for first, last in ((3, 3), (2, LAYERS + 1), (-1, 2)):
            with pytest.raises(UnsupportedModel):
                await stage(other, entry, first, last)
        assert source.given[Wanted.CHUNKS] == 0


async def test_peers_are_served_while_another_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        entry = await model_on(source)
        go_on = threading.Event()

        def slow(*given: Any) -> manifest.Manifest:
            go_on.wait(10.0)
            return fingerprint.fingerprint(*given)

        monkeypatch.setattr("peerinfer.models.store.fingerprint", slow)
        write_tiny_llama(source.home / "models" / "big.gguf", layers=3, seed=3)
        reading = asyncio.create_task(source.store.listing())
        await asyncio.sleep(0.1)
        try:
            async with asyncio.timeout(5.0):
                assert (await stage(other, entry, 1, 3)).exists()
            assert not reading.done()
        finally:
            go_on.set()
        assert [model.name for model in (await reading).models] == ["big", "tiny"]
