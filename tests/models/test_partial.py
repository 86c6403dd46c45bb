"""A partial file: hashed along the way, gone on from, and a full disk is a sentence that loses nothing."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerinfer.errors import CorruptModel, DiskFull, HomeError
from peerinfer.models.pull.partial import Partial, file_digest


def opened(path: Path) -> Partial:
    partial = Partial(path)
    partial.open(lambda _: None)
    return partial


@settings(max_examples=50)
@given(pieces=st.lists(st.binary(max_size=50), max_size=8), reopen=st.lists(st.booleans(), min_size=8, max_size=8))
def test_any_pieces_by_any_processes_give_the_digest_of_all(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], reopen: list[bool]
) -> None:
    folder = tmp_path_factory.mktemp("partial")
    partial = opened(folder / "p")
    for piece, again in zip(pieces, reopen, strict=False):
        partial.write(piece)
        if again:
            partial.close()
            partial = opened(folder / "p")
    data = b"".join(pieces)
    assert partial.size_bytes == len(data)
    partial.finish(hashlib.sha256(data).hexdigest(), folder / "final", "x")
    assert [path.name for path in folder.iterdir()] == ["final"]
    assert (folder / "final").read_bytes() == data


@pytest.mark.parametrize(
    ("etag", "kept"),
    [('"abc"', '"abc"'), ('W/"abc"', ""), ("abc", ""), ('"a\x01"', ""), ('"' + "a" * 300 + '"', ""), ('"é"', "")],
)  # fmt: skip
def test_only_a_strong_validator_is_kept(tmp_path: Path, etag: str, kept: str) -> None:
    partial = opened(tmp_path / "p")
    partial.restart(etag)
    assert partial.etag == kept
    assert Partial(tmp_path / "p").etag == kept
    partial.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_restart_forgets_everything(tmp_path: Path) -> None:
    partial = opened(tmp_path / "p")
    partial.restart('"one"')
    partial.write(b"wrong")
    partial.restart("")
    partial.write(b"right")
    assert (partial.size_bytes, partial.etag) == (5, "")
    partial.finish(hashlib.sha256(b"right").hexdigest(), tmp_path / "final", "x")


def test_a_wrong_digest_leaves_nothing_and_not_the_name(tmp_path: Path) -> None:
    partial = opened(tmp_path / "p")
    partial.write(b"data")
    with pytest.raises(CorruptModel, match="x came with the SHA-256"):
        partial.finish("0" * 64, tmp_path / "final", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_what_came_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = opened(tmp_path / "p")
    partial.write(b"first")

    class Full:
        def write(self, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    monkeypatch.setattr(partial, "_file", Full())
    with pytest.raises(DiskFull, match="what came is kept"):
        partial.write(b"second")
    partial.close()
    assert opened(tmp_path / "p").size_bytes == 5


def test_a_folder_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HomeError, match="Check the permissions"):
        opened(tmp_path / "file" / "p")
    with pytest.raises(HomeError, match="cannot be written or read"):
        file_digest(tmp_path / "nothing", lambda _: None)
    with pytest.raises(HomeError, match="is not open"):
        Partial(tmp_path / "p").write(b"x")
