"""What no node gives comes from where the model was pulled from, by ranges, and verified like everything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import ModelError
from peerinfer.models import fetch, fingerprint, manifest
from peerinfer.models.exchange import Wanted
from peerinfer.models.pull.catalogue import Catalogue
from peerinfer.models.pull.origin import Origin, OriginFile, PieceQuestion, decode_origin, encode_origin, origin_of
from peerinfer.models.pull.pull import PullDesk
from peerinfer.models.shards import stage_key
from peerinfer.models.shelf import ShelfItem
from peerinfer.models.store import ModelEntry
from tests.cutting import cut
from tests.models.house import ModelNode, house_of
from tests.models.hub_server import HubServer
from tests.tiny import write_tiny_llama

LAYERS = 6
REPO = "owner/tiny-GGUF"
FILE = "tiny-Q8_0.gguf"
COMMIT = "0" * 40


@pytest.fixture(autouse=True)
def quick_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (manifest, fingerprint):
        monkeypatch.setattr(module, "CHUNK_BYTES", 65_536)
    monkeypatch.setattr("peerinfer.models.swarm.JOB_BYTES", 4 * 65_536)
    monkeypatch.setattr(fetch, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(fetch, "RETRY_S", 0.05)
    monkeypatch.setattr(fetch, "ORIGIN_AFTER_S", 0.2)
    monkeypatch.setattr(fetch, "STALL_S", 5.0)


@pytest.fixture
async def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[HubServer]:
    model = write_tiny_llama(tmp_path / FILE, layers=LAYERS, width=128)
    async with HubServer(tmp_path / "hub") as server:
        server.put(REPO, FILE, model.read_bytes())
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        yield server


async def pulled(node: ModelNode) -> ModelEntry:
    desk = PullDesk()
    brought = await desk.pull(f"hf:{REPO}", node.store.models_folder, Catalogue(()), lambda _: None)
    return await node.store.take_in(ShelfItem(brought.name, brought.paths, brought.reference))


def sent(hub: HubServer) -> int:
    return sum(request.sent_bytes for request in hub.requests)


async def test_when_the_only_holder_dies_the_rest_comes_from_the_hub(tmp_path: Path, hub: HubServer) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        entry = await pulled(source)
        before = sent(hub)
        dead: list[asyncio.Task[None]] = []

        def die(piece: bytes, number: int) -> bytes:
            if number == 12 and not dead:
                dead.append(asyncio.get_running_loop().create_task(source.net.close()))
            return piece

        source.spoil = die
        files = await other.warehouse.stage_files("h", entry.digest, "tiny", (1, 5), lambda _: None)
        reference = cut(entry.paths[0], stage_key(entry.digest, 1, 5, LAYERS), tmp_path / "reference")
        assert files.shard.read_bytes() == reference.read_bytes()
        assert dead
        assert source.given[Wanted.CHUNKS] > 0
        assert 0 < sent(hub) - before < reference.stat().st_size
        await dead[0]


async def test_a_hub_that_gives_other_bytes_gives_nothing(tmp_path: Path, hub: HubServer) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        entry = await pulled(source)
        await other.warehouse.library.dossier(entry.digest, "tiny")
        another = write_tiny_llama(tmp_path / "another.gguf", layers=LAYERS, width=128, seed=5)
        hub.put(REPO, FILE, another.read_bytes())
        await source.net.close()
        with pytest.raises(ModelError, match="are missing here"):
            await other.warehouse.stage_files("h", entry.digest, "tiny", (1, 2), lambda _: None)
        assert not list((other.home / "shards").glob("*.gguf"))


async def test_while_a_node_gives_what_is_needed_the_hub_is_not_asked(tmp_path: Path, hub: HubServer) -> None:
    async with house_of(tmp_path, 2) as (source, other):
        entry = await pulled(source)
        before = len(hub.requests)
        await other.warehouse.stage_files("h", entry.digest, "tiny", (0, 3), lambda _: None)
        assert len(hub.requests) == before


def test_where_a_model_came_from_is_known_by_its_place_in_the_cache() -> None:
    folder = Path("/c/hub/models--owner--tiny-GGUF/snapshots") / COMMIT
    origin = origin_of(f"hf:{REPO}:Q8_0", (folder / "sub" / FILE,))
    assert origin is not None
    assert origin == Origin((OriginFile("owner", "tiny-GGUF", COMMIT, f"sub/{FILE}"),))
    assert decode_origin(encode_origin(origin)) == origin
    for source, path in (
        ("", folder / FILE),
        ("https://example.org/a.gguf", folder / FILE),
        (f"hf:{REPO}", Path("/home/models") / FILE),
        (f"hf:{REPO}", folder.parent / "main" / FILE),
        ("hf:../..", folder / FILE),
    ):
        assert origin_of(source, (path,)) is None


@given(st.binary(max_size=200))
def test_no_bytes_of_a_peer_name_anything_but_a_file_of_the_hub(data: bytes) -> None:
    origin = decode_origin(data)
    assert origin is None or all(file.file.endswith(".gguf") for file in origin.files)


@pytest.mark.parametrize(
    ("owner", "repo", "commit", "file"),
    [
        ("..", "tiny", COMMIT, FILE),
        ("owner", "ti/ny", COMMIT, FILE),
        ("owner", "tiny", "main", FILE),
        ("owner", "tiny", COMMIT, "../../secret.gguf"),
        ("owner", "tiny", COMMIT, "a.bin"),
        ("owner", "tiny?x=1", COMMIT, FILE),
        ("owner", "tiny", COMMIT, "a.gguf#b"),
    ],
)
def test_what_is_no_file_of_the_hub_is_refused(owner: str, repo: str, commit: str, file: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        OriginFile(owner, repo, commit, file)


@pytest.mark.parametrize(("offset", "n_bytes"), [(-1, 5), (0, 0), (0, 1 << 40)])
def test_a_range_that_cannot_be_is_refused(offset: int, n_bytes: int) -> None:
    with pytest.raises(ValueError, match="range"):
        PieceQuestion(OriginFile("owner", "tiny", COMMIT, FILE), offset, n_bytes)
