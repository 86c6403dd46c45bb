"""Shard files in the making: whatever stops the work, there is no shard or a whole one, and no good chunk twice."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from peerinfer.errors import CorruptModel, DiskFull, HomeError
from peerinfer.models import manifest as manifest_module
from peerinfer.models.assembly import Assembly, LocalSource, partial_path
from peerinfer.models.gguf import read_header
from peerinfer.models.holdings import Dossier
from peerinfer.models.layout import Layout, Piece
from peerinfer.models.layout_writer import layout_for
from peerinfer.models.manifest import Manifest
from peerinfer.models.shards import stage_key
from tests.cutting import dossier_of
from tests.tiny import write_tiny_llama

LAYERS = 4
POINTS = ("opened", "headed", "chunk", "synced", "renamed")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "CHUNK_BYTES", 4096)
    monkeypatch.setattr("peerinfer.models.fingerprint.CHUNK_BYTES", 4096)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS, tied=False)


def assembly_of(model: Path, folder: Path, first: int = 0, last: int = 2) -> tuple[Assembly, Dossier]:
    dossier = dossier_of(model)
    key = stage_key(dossier.digest, first, last, LAYERS)
    return Assembly(folder / key.file_name, layout_for(read_header(model), key), dossier.manifest), dossier


def whole(model: Path, folder: Path) -> Path:
    made, dossier = assembly_of(model, folder)
    made.open()
    made.fill(dossier.own_sources()[0], lambda: None)
    return made.finish()


def test_progress_grows_to_one_and_the_partial_file_is_gone(model: Path, tmp_path: Path) -> None:
    made, dossier = assembly_of(model, tmp_path / "shards")
    told: list[float] = []
    made.open()
    with pytest.raises(CorruptModel, match="not whole"):
        made.finish()
    made.fill(dossier.own_sources()[0], lambda: told.append(made.share))
    path = made.finish()
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_size == made.n_bytes
    read_header(path)


def test_what_is_there_is_found_again_and_not_written_twice(model: Path, tmp_path: Path) -> None:
    reference = whole(model, tmp_path / "reference").read_bytes()
    first, dossier = assembly_of(model, tmp_path / "shards")
    first.open()
    numbers = list(first.missing)
    content = model.read_bytes()
    (source,) = dossier.own_sources()
    for number in numbers[: len(numbers) // 2]:
        chunk = dossier.manifest.chunk(number)
        start = source.offsets[chunk.tensor] + chunk.offset
        assert first.put(number, content[start : start + chunk.n_bytes])
    first.close()
    second, _ = assembly_of(model, tmp_path / "shards")
    second.open()
    assert list(second.missing) == numbers[len(numbers) // 2 :]
    second.fill(source, lambda: None)
    assert second.finish().read_bytes() == reference


def test_a_flipped_bit_in_any_chunk_is_refused(model: Path, tmp_path: Path) -> None:
    made, dossier = assembly_of(model, tmp_path / "shards")
    made.open()
    (source,) = dossier.own_sources()
    content = model.read_bytes()
    chance = random.Random(4)
    number, good = 0, b""
    for _ in range(1000):
        number = chance.choice(list(made.missing))
        chunk = dossier.manifest.chunk(number)
        start = source.offsets[chunk.tensor] + chunk.offset
        good = content[start : start + chunk.n_bytes]
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        assert not made.put(number, bad)
        assert number in made.missing
    made.close()
    assert not made.final.exists()
    with pytest.raises(HomeError):
        made.put(number, good)


def test_a_source_that_is_damaged_or_gone_leaves_its_chunks_missing(model: Path, tmp_path: Path) -> None:
    made, dossier = assembly_of(model, tmp_path / "shards")
    made.open()
    (source,) = dossier.own_sources()
    count = len(made.missing)
    made.fill(LocalSource(tmp_path / "gone.gguf", source.offsets), lambda: None)
    assert len(made.missing) == count
    bad = bytearray(model.read_bytes())
    victim = next(iter(made.missing))
    bad[source.offsets[dossier.manifest.chunk(victim).tensor] + dossier.manifest.chunk(victim).offset] ^= 255
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(bad)
    made.fill(LocalSource(copy, source.offsets), lambda: None)
    assert list(made.missing) == [victim]
    made.fill(source, lambda: None)
    made.finish()


CRASH = """
import os, sys
from pathlib import Path
from peerinfer.models import fingerprint, manifest
manifest.CHUNK_BYTES = fingerprint.CHUNK_BYTES = 4096
from peerinfer.models.assembly import Assembly
from peerinfer.models.gguf import read_header
from peerinfer.models.layout_writer import layout_for
from peerinfer.models.shards import stage_key
from tests.cutting import dossier_of
model, folder, point, after = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
seen = 0
def at(name):
    global seen
    seen += name == point
    if seen > after:
        os.kill(os.getpid(), 9)
dossier = dossier_of(model)
key = stage_key(dossier.digest, 0, 2, 4)
made = Assembly(folder / key.file_name, layout_for(read_header(model), key), dossier.manifest, at)
made.open()
made.fill(dossier.own_sources()[0], lambda: None)
made.finish()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process ends itself by a signal")
@pytest.mark.parametrize(("point", "after"), [*((point, 0) for point in POINTS), ("chunk", 17)])
def test_a_kill_at_any_point_leaves_no_shard_or_a_whole_one(
    model: Path, tmp_path: Path, point: str, after: int
) -> None:
    reference = whole(model, tmp_path / "reference").read_bytes()
    folder = tmp_path / "shards"
    command = [sys.executable, "-c", CRASH, str(model), str(folder), point, str(after)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == -9, done.stderr
    final = assembly_of(model, folder)[0].final
    assert final.exists() == (point == "renamed")
    if final.exists():
        assert final.read_bytes() == reference
        return
    again, dossier = assembly_of(model, folder)
    count = len(again.missing)
    again.open()
    assert count - len(again.missing) == {"chunk": after + 1, "synced": count}.get(point, 0)
    again.fill(dossier.own_sources()[0], lambda: None)
    assert again.finish().read_bytes() == reference
    assert list(folder.iterdir()) == [final]


@pytest.mark.parametrize("failure", [(errno.ENOSPC, DiskFull), (errno.EIO, HomeError)])
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_disk_that_fails_says_so_and_nothing_is_lost(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, failure: tuple[int, type[HomeError]]
) -> None:
    number, kind = failure

    def fail(*_arguments: object) -> None:
        raise OSError(number, "no")

    made, dossier = assembly_of(model, tmp_path / "shards")
    made.open()
    made.fill(dossier.own_sources()[0], lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(kind, match=r"Free some space|Check the permissions"):
            made.finish()
    made.close()
    assert not made.final.exists()
    again, _ = assembly_of(model, tmp_path / "shards")
    again.open()
    assert not again.missing
    again.finish()


def test_a_folder_that_cannot_be_made_is_told(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    made, _ = assembly_of(model, tmp_path / "file" / "shards")
    with pytest.raises(HomeError, match="permissions"):
        made.open()


def test_a_partial_file_of_another_length_or_content_is_made_right(model: Path, tmp_path: Path) -> None:
    reference = whole(model, tmp_path / "reference").read_bytes()
    made, dossier = assembly_of(model, tmp_path / "shards")
    made.final.parent.mkdir()
    for junk in (b"", b"x" * 10, b"\xff" * (2 * len(reference))):
        partial_path(made.final).write_bytes(junk)
        made, _ = assembly_of(model, tmp_path / "shards")
        made.open()
        made.fill(dossier.own_sources()[0], lambda: None)
        assert made.finish().read_bytes() == reference


def test_a_tensor_may_stand_in_a_shard_twice(model: Path, tmp_path: Path) -> None:
    dossier = dossier_of(model)
    size = dossier.manifest.tensor_bytes[0]
    layout = Layout(b"head", 2 * size + 10, (Piece(4, size, 0), Piece(size + 10, size, 0)))
    made = Assembly(tmp_path / "twice.gguf", layout, dossier.manifest)
    made.open()
    made.close()
    again = Assembly(tmp_path / "twice.gguf", layout, dossier.manifest)
    again.open()
    again.fill(dossier.own_sources()[0], lambda: None)
    content = again.finish().read_bytes()
    start = read_header(model).tensors[0].offset
    assert content[4 : 4 + size] == content[size + 10 :] == model.read_bytes()[start : start + size]


def test_plan_and_manifest_must_go_together(model: Path, tmp_path: Path) -> None:
    manifest = dossier_of(model).manifest
    size = manifest.tensor_bytes[0]
    for pieces in (
        (Piece(10, size, len(manifest.tensor_bytes)),),
        (Piece(10, size + 1, 0),),
    ):
        with pytest.raises(CorruptModel, match="does not fit"):
            Assembly(tmp_path / "a.gguf", Layout(b"head", 10_000_000, pieces), manifest)


@pytest.mark.parametrize(
    "pieces",
    [
        (Piece(3, 1, 0),),
        (Piece(10, 0, 0),),
        (Piece(10, 4, -1),),
        (Piece(10, 4, -1, b"abc"),),
        (Piece(10, 4, 0, b"abcd"),),
        (Piece(10, 4, 0), Piece(13, 4, 1)),
        (Piece(99, 4, 0),),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(pieces: tuple[Piece, ...]) -> None:
    with pytest.raises(CorruptModel, match="contradicts"):
        Layout(b"head", 100, pieces)


def test_manifests_of_a_model_do_not_depend_on_the_name(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(model.read_bytes() + b"trailing bytes are no part of the model")
    one, other = dossier_of(model).manifest, dossier_of(copy).manifest
    assert isinstance(one, Manifest)
    assert one == other
