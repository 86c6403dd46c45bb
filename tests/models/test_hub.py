"""The hub's cache as other programs expect it: links, systems without links, what is damaged, what is left over."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from peerinfer.errors import CorruptModel
from peerinfer.models.pull import hub
from peerinfer.models.pull.choice import RepoFile, Variant
from peerinfer.models.pull.partial import KEPT_S
from peerinfer.models.pull.reference import HubReference

DATA = b"GGUF and the rest"
SHA256 = hashlib.sha256(DATA).hexdigest()
COMMIT = "c0ffee" * 6 + "abcd"
FILE = RepoFile("Q4_K_M/m-Q4_K_M.gguf", len(DATA), SHA256)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> hub.CachePlace:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return place_of(FILE)


def place_of(file: RepoFile) -> hub.CachePlace:
    variant = Variant(file.path, "Q4_K_M", (file,))
    return hub.CachePlace(hub.Found(HubReference("owner", "repo"), COMMIT, variant, "", online=True), file)


def put_blob(place: hub.CachePlace, data: bytes = DATA) -> None:
    place.blob.parent.mkdir(parents=True, exist_ok=True)
    place.blob.write_bytes(data)


def whole(place: hub.CachePlace) -> Path | None:
    return place.whole(lambda _: None)


def known(tmp_path: Path) -> object:
    return huggingface_hub.try_to_load_from_cache("owner/repo", FILE.path, cache_dir=tmp_path)


def test_a_blob_becomes_known_to_other_programs(place: hub.CachePlace, tmp_path: Path) -> None:
    assert (place.missing_bytes(), whole(place)) == (len(DATA), None)
    put_blob(place)
    assert (place.missing_bytes(), whole(place)) == (0, place.blob)
    pointer = place.settle()
    assert pointer.read_bytes() == DATA
    assert not os.path.isabs(os.readlink(pointer))
    assert known(tmp_path) == str(pointer)
    assert place.settle() == pointer
    assert whole(place) == pointer


def test_where_there_are_no_links_the_blob_is_moved(
    place: hub.CachePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> None:
        raise OSError("a privilege is not held")

    monkeypatch.setattr(hub.os, "symlink", refused)
    put_blob(place)
    pointer = place.settle()
    assert not pointer.is_symlink()
    assert not place.blob.exists()
    assert known(tmp_path) == str(pointer)
    assert whole(place) == pointer


def test_a_dangling_link_is_mended(place: hub.CachePlace) -> None:
    put_blob(place)
    place.settle()
    place.blob.unlink()
    assert whole(place) is None
    put_blob(place)
    assert place.settle().read_bytes() == DATA


def test_a_damaged_file_is_removed(place: hub.CachePlace) -> None:
    put_blob(place, b"GGUF and a flaw  ")
    pointer = place.settle()
    assert whole(place) is None
    assert not place.blob.exists()
    assert not pointer.is_symlink()


def test_only_our_own_old_leftovers_are_removed(place: hub.CachePlace) -> None:
    folder = place.blob.parent
    folder.mkdir(parents=True)
    names = [
        f"{'a' * 64}.incomplete",
        f"{'a' * 64}.incomplete.etag",
        f"{'b' * 64}.incomplete",
        f"{'a' * 64}.0123abcd.incomplete",
    ]
    for name in names:
        (folder / name).write_bytes(b"x")
        if not name.startswith("b"):
            os.utime(folder / name, (0, time.time() - KEPT_S - 60))
    with place.locked():
        pass
    assert sorted(path.name for path in folder.iterdir()) == sorted(names[2:])


@pytest.mark.parametrize("path", ["../m.gguf", "/m.gguf", "a/../../m.gguf", "m.bin", "a\\m.gguf", "con.gguf"])
def test_no_name_of_the_hub_leads_outside(place: hub.CachePlace, path: str) -> None:
    with pytest.raises(CorruptModel):
        place_of(RepoFile(path, 1, SHA256))


@pytest.mark.parametrize("digest", ["", "../x", "A" * 64, "a" * 63])
def test_only_a_digest_names_a_blob(place: hub.CachePlace, digest: str) -> None:
    with pytest.raises(CorruptModel, match="no SHA-256"):
        place_of(RepoFile("m.gguf", 1, digest))
