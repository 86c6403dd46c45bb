"""What lies on a node's disk of models: verified, mended, tidied, bounded, and known again after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import CorruptModel, DiskFull, ModelError, UnknownModel, UnsupportedModel
from peerinfer.models.assembly import partial_path
from peerinfer.models.exchange import Question, Wanted, encode_question
from peerinfer.models.records import Records
from peerinfer.models.shards import WRITER_VERSION, key_of, stage_key
from tests.models.house import CHUNK, LAYERS, house_of, model_on, stage
from tests.tiny import write_tiny_llama

pytestmark = pytest.mark.usefixtures("quick_and_small")


async def test_a_file_that_was_replaced_is_told_and_its_vocabulary_serves_on(tmp_path: Path) -> None:
    async with house_of(tmp_path, 1) as (source,):
        entry = await model_on(source)
        await source.warehouse.library.dossier(entry.digest, "tiny")
        vocabulary = await source.warehouse.vocabulary_file(entry.digest, "tiny")
        write_tiny_llama(entry.paths[0], layers=LAYERS, width=128, seed=7)
        assert await source.warehouse.vocabulary_file(entry.digest, "tiny") == vocabulary
        with pytest.raises(ModelError, match="replaced"):
            await stage(source, entry, 1, 3)


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


async def test_what_cannot_be_read_is_not_kept_to_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        entry = await model_on(source)
        asked: list[Sequence[Path]] = []

        async def inspect(paths: Sequence[Path], *, is_header_only: bool = False) -> None:
            asked.append(paths)
            raise UnsupportedModel("This model cannot be run.")

        monkeypatch.setattr(other.store.inspector, "inspect", inspect)
        with pytest.raises(UnsupportedModel):
            await stage(other, entry, 1, 3)
        assert await other.warehouse.library.partial_models() == ()
        assert len(asked) == 1
        assert not list((other.home / "manifests").iterdir())


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
