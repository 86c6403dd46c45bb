"""What people call a model: kept for good, several names for one copy, and removal under all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from peerinfer.errors import BadRequest, UnknownModel
from peerinfer.models.shelf import ShelfItem
from tests.models.stores import Stores, put
from tests.tiny import write_tiny_llama


async def test_what_a_person_named_is_known_after_a_restart(store_of: Stores, home: Path, tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "elsewhere.gguf", layers=2, width=32)
    entry = await store_of(home).add(path)
    again = store_of(home)
    assert await again.find("elsewhere") == entry
    assert await again.remove(entry) == 0
    assert path.exists()
    assert (await store_of(home).listing()).models == ()


async def test_the_bundled_model_is_not_removed(store_of: Stores, home: Path) -> None:
    store = store_of(home, bundled=True)
    entry = await store.find("smollm2")
    with pytest.raises(BadRequest, match="came with the installation"):
        await store.remove(entry)
    assert entry.paths[0].exists()


async def test_a_model_in_the_models_folder_is_removed_with_its_file(store_of: Stores, home: Path) -> None:
    path = put(home, "a.gguf")
    store = store_of(home)
    entry = await store.find("a")
    assert await store.remove(entry) == entry.size_bytes
    assert not path.exists()
    with pytest.raises(UnknownModel):
        await store.find("a")


async def test_a_pulled_model_keeps_name_source_and_licence_and_two_names_are_one_copy(
    store_of: Stores, home: Path, tmp_path: Path
) -> None:
    path = write_tiny_llama(tmp_path / "Some-File-Q8_0.gguf", layers=2, width=32)
    item = ShelfItem("nice:2b", (path,), "hf:owner/nice:Q8_0", "Apache-2.0")
    entry = await store_of(home).take_in(item)
    assert (entry.name, entry.source, entry.licence) == ("nice:2b", "hf:owner/nice:Q8_0", "Apache-2.0")
    store = store_of(home)
    assert await store.find("nice") == entry
    assert (await store.add(path)).digest == entry.digest
    listing = await store.listing()
    assert [model.name for model in listing.models] == ["nice:2b"]
    assert listing.aliases == (("some-file-q8_0", "nice:2b"),)
    assert await store.find("some-file") == await store.find("nice:2b")
    copy = home / "models" / "copy.gguf"
    copy.write_bytes(path.read_bytes())
    assert (await store.find("copy")).digest == entry.digest
    assert await store.remove(entry) == 2 * entry.size_bytes
    assert not path.exists()
    assert not copy.exists()
    assert (await store_of(home).listing()).models == ()


async def test_a_file_named_twice_is_forgotten_once(store_of: Stores, home: Path, tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "a.gguf", layers=2, width=32)
    store = store_of(home)
    entry = await store.add(path)
    await store.take_in(ShelfItem("another", (path,)))
    assert await store.remove(entry) == 0
    assert path.exists()
    assert (await store.listing()).models == ()


async def test_files_that_are_missing_beside_a_model_are_named(store_of: Stores, home: Path, tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "a.gguf", layers=2, width=32)
    with pytest.raises(UnknownModel, match=r"b\.gguf"):
        await store_of(home).take_in(ShelfItem("a", (path, tmp_path / "b.gguf")))


async def test_a_file_that_a_person_linked_into_the_models_folder_stays_where_it_is(
    store_of: Stores, home: Path, tmp_path: Path
) -> None:
    own = write_tiny_llama(tmp_path / "own.gguf", layers=2, width=32)
    (home / "models" / "linked.gguf").symlink_to(own)
    store = store_of(home)
    assert await store.remove(await store.find("linked")) == 0
    assert own.is_file()
    assert (await store.listing()).models == ()
