"""What nodes without a model's file fetch: just their layers, verified, from whoever has them, whatever happens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import CorruptModel, DiskFull, ModelError, UnknownModel, UnsupportedModel
from peerinfer.models import fetch, fingerprint, manifest
from peerinfer.models import library as library_module
from peerinfer.models.assembly import partial_path
from peerinfer.models.exchange import Question, Wanted, encode_question
from peerinfer.models.gguf import TensorInfo, read_header
from peerinfer.models.gguf_cursor import StringArray
from peerinfer.models.records import Records
from peerinfer.models.shards import WRITER_VERSION, key_of, stage_key
from peerinfer.models.store import ModelEntry
from tests.cutting import cut
from tests.models.house import ModelNode, house_of
from tests.net.mesh import until
from tests.splitting import split_model
from tests.tiny import write_tiny_llama

LAYERS = 6
CHUNK = 16_384


@pytest.fixture(autouse=True)
def quick_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small chunks, so that a tiny model has many; short waits, since nothing here is far."""
    monkeypatch.setattr(manifest, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(fingerprint, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr("peerinfer.models.swarm.JOB_BYTES", 4 * CHUNK)
    monkeypatch.setattr(fetch, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(fetch, "RETRY_S", 0.05)
    monkeypatch.setattr(fetch, "STALL_S", 1.0)
    monkeypatch.setattr(library_module, "ASK_AGAIN_S", 0.05)


async def model_on(node: ModelNode, *, tied: bool = False) -> ModelEntry:
    write_tiny_llama(node.home / "models" / "tiny.gguf", layers=LAYERS, width=128, tied=tied)
    return await node.store.find("tiny")


async def stage(node: ModelNode, entry: ModelEntry, first: int, last: int, holder: str = "h") -> Path:
    files = await node.warehouse.stage_files(holder, entry.digest, "tiny", (first, last), lambda _: None)
    return files.shard


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


async def test_a_file_that_was_replaced_is_told_and_its_vocabulary_serves_on(tmp_path: Path) -> None:
    async with house_of(tmp_path, 1) as (source,):
        entry = await model_on(source)
        await source.warehouse.library.dossier(entry.digest, "tiny")
        vocabulary = await source.warehouse.vocabulary_file(entry.digest, "tiny")
        write_tiny_llama(entry.paths[0], layers=LAYERS, width=128, seed=7)
        assert await source.warehouse.vocabulary_file(entry.digest, "tiny") == vocabulary
        with pytest.raises(ModelError, match="replaced"):
            await stage(source, entry, 1, 3)


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


async def test_questions_about_what_is_not_here_are_refused(tmp_path: Path) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        entry = await model_on(source)
        await source.warehouse.library.dossier(entry.digest, "tiny")
        count = source.warehouse.giver.answer("x", encode_question(Question(Wanted.HOLDINGS, entry.digest))).n_bytes
        assert count > 0
        for question in (
            Question(Wanted.MANIFEST, "0" * 64),
            Question(Wanted.HEADER, entry.digest, (1,)),
            Question(Wanted.CHUNKS, entry.digest, (10_000,)),
        ):
            with pytest.raises(UnknownModel):
                source.warehouse.giver.answer("x", encode_question(question))
        with pytest.raises(UnknownModel):
            other.warehouse.giver.answer("x", encode_question(Question(Wanted.HOLDINGS, entry.digest)))


async def test_a_shard_that_the_disk_damaged_is_mended_by_just_what_is_wrong(tmp_path: Path) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        entry = await model_on(source)
        shard = await stage(other, entry, 1, 4)
        good = shard.read_bytes()
        other.warehouse.release("h")
        source.given.clear()
        other.warehouse._sound.clear()  # as after a restart
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 4
        shard.write_bytes(bad)
        assert (await stage(other, entry, 1, 4)).read_bytes() == good
        assert 0 < source.given[Wanted.CHUNKS] <= CHUNK
        other.warehouse._sound.clear()
        shard.write_bytes(good[:-5])
        assert (await stage(other, entry, 1, 4)).read_bytes() == good


async def test_what_was_left_behind_is_tidied_and_what_is_of_use_stays(tmp_path: Path) -> None:
    async with house_of(tmp_path, 1) as (node,):
        entry = await model_on(node)
        shard = await stage(node, entry, 1, 3)
        dead = f"{max(psutil.pids()) + 100_000}-0123abcd-0123abcd.partial"
        resumable = partial_path(shard.with_name(shard.name.replace("-1-3-", "-3-4-")))
        older = shard.with_name(shard.name.replace(f"-v{WRITER_VERSION}", "-v1"))
        left = [
            node.home / "models" / f".a.gguf.{dead}",
            node.home / "manifests" / f".x.manifest.{dead}",
            older,
            partial_path(older),
        ]
        for path in (*left, resumable):
            path.write_bytes(b"left")
        node.warehouse.tidy()
        assert [path for path in left if path.exists()] == []
        assert resumable.exists()
        assert shard.exists()
        assert await node.store.find("tiny") == entry


@given(st.text(max_size=80))
def test_what_a_peer_calls_a_model_never_becomes_a_path(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    home = tmp_path_factory.mktemp("home")
    records = Records(home / "manifests")
    records.put_name("ab" * 32, name)
    assert [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()] == [
        f"manifests/{'ab' * 32}.name"
    ]
    assert records.name("ab" * 32).isprintable()
    if len(name) != 64 or set(name) - set("0123456789abcdef"):
        with pytest.raises(CorruptModel):
            records.manifest(name) if records.has_manifest(name) else None
        with pytest.raises(ValueError, match="digest"):
            Question(Wanted.MANIFEST, name)
        with pytest.raises(UnsupportedModel):
            stage_key(name, 0, 1, 2)
    assert key_of(name) is None


async def test_a_range_that_may_be_no_stage_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        entry = await model_on(source)
        for first, last in ((3, 3), (2, LAYERS + 1), (-1, 2)):
            with pytest.raises(UnsupportedModel):
                await stage(other, entry, first, last)
        assert source.given[Wanted.CHUNKS] == 0


async def test_room_is_made_by_what_was_used_longest_ago_and_never_by_what_is_in_use(tmp_path: Path) -> None:
    async with house_of(tmp_path, 2) as (source, _):
        entry = await model_on(source)
        sizes = [(await stage(source, entry, first, first + 1, holder=str(first))).stat().st_size for first in (1, 2)]
    async with house_of(tmp_path / "again", 2, limit_bytes=int(2.5 * sizes[0])) as (source, other):
        entry = await model_on(source)
        first = await stage(other, entry, 1, 2, "a")
        second = await stage(other, entry, 2, 3, "b")
        other.warehouse.release("a")
        third = await stage(other, entry, 3, 4, "c")
        assert (first.exists(), second.exists(), third.exists()) == (False, True, True)
        with pytest.raises(DiskFull, match="in use"):
            await stage(other, entry, 4, 5, "d")
        assert (second.exists(), third.exists()) == (True, True)
        other.warehouse.release("b")
        freed = second.stat().st_size
        assert await other.warehouse.forget(entry.digest) == freed
        assert (second.exists(), third.exists()) == (False, True)


async def test_a_node_that_starts_again_has_what_it_fetched(tmp_path: Path) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        entry = await model_on(source)
        await stage(other, entry, 1, 3)
        (dossier,) = await other.warehouse.library.partial_models()
        held = await other.warehouse.library.held_ranges(dossier)
    async with house_of(tmp_path / "elsewhere", 1) as (alone,):
        for folder in ("manifests", "shards"):
            (other.home / folder).rename(alone.home / folder)
        (dossier,) = await alone.warehouse.library.partial_models()
        assert (dossier.digest, dossier.facts) == (entry.digest, entry.facts)
        assert alone.warehouse.library.name_of(entry.digest) == "tiny"
        assert await alone.warehouse.library.held_ranges(dossier) == held
        assert (await stage(alone, entry, 1, 3)).exists()
        assert (await stage(alone, entry, 2, 3)).exists()
