"""Several shards, transfers and ends of them at the same time: none takes from another what it needs."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from peerinfer.clock import monotonic
from peerinfer.errors import BadFrame, DiskFull
from peerinfer.models import fetch, fingerprint, manifest
from peerinfer.models import library as library_module
from peerinfer.models.assembly import Assembly
from peerinfer.models.exchange import Wanted, bits_of, decode_question
from peerinfer.models.fetch import ByteStream, Fetch
from peerinfer.models.layout import Layout, Piece
from peerinfer.models.manifest import Manifest, PartHeader
from peerinfer.models.shards import stage_key
from peerinfer.models.store import ModelEntry
from tests.cutting import cut
from tests.models.house import ModelNode, house_of
from tests.models.test_assembly import assembly_of
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


async def model_on(node: ModelNode) -> ModelEntry:
    write_tiny_llama(node.home / "models" / "tiny.gguf", layers=LAYERS, width=128, tied=True)
    return await node.store.find("tiny")


async def stage(node: ModelNode, entry: ModelEntry, first: int, last: int, holder: str) -> Path:
    files = await node.warehouse.stage_files(holder, entry.digest, "tiny", (first, last), lambda _: None)
    return files.shard


class Gate:
    """Lets an assembly go on only when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.go_on_again = threading.Event()
        """For the second assembly, at its head."""
        self._times = Counter[str]()
        original = Assembly.__init__
        gate = self

        def init(self: Assembly, *parts: object) -> None:
            original(self, *parts, gate._at)  # pyright: ignore[reportCallIssue]

        self._point = point
        monkeypatch.setattr(Assembly, "__init__", init)

    def _at(self, point: str) -> None:
        self._times[point] += 1
        if point == self._point and self._times[point] == 1:
            self.reached.set()
            self.go_on.wait(10.0)
        elif point == "headed" and self._times[point] == 2:
            self.go_on_again.wait(10.0)


async def test_a_shard_that_is_just_being_made_is_not_evicted_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house_of(tmp_path, 1) as (node,):
        entry = await model_on(node)
        size = (await stage(node, entry, 1, 2, "size")).stat().st_size
        node.warehouse.release("size")
    async with house_of(tmp_path / "again", 1, limit_bytes=int(1.5 * size)) as (node,):
        entry = await model_on(node)
        gate = Gate(monkeypatch, "synced")
        gate.go_on_again.set()
        making = asyncio.create_task(stage(node, entry, 1, 2, "a"))
        await asyncio.to_thread(gate.reached.wait, 10.0)
        with pytest.raises(DiskFull, match="in use"):
            await stage(node, entry, 2, 3, "b")
        gate.go_on.set()
        assert (await making).stat().st_size == size


async def test_room_that_a_shard_in_the_making_will_take_is_not_given_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house_of(tmp_path, 1) as (node,):
        entry = await model_on(node)
        size = (await stage(node, entry, 1, 2, "size")).stat().st_size
    async with house_of(tmp_path / "again", 1, limit_bytes=int(1.5 * size)) as (node,):
        entry = await model_on(node)
        gate = Gate(monkeypatch, "headed")
        gate.go_on_again.set()
        making = asyncio.create_task(stage(node, entry, 1, 2, "a"))
        await asyncio.to_thread(gate.reached.wait, 10.0)
        with pytest.raises(DiskFull):
            await stage(node, entry, 2, 3, "b")
        gate.go_on.set()
        assert (await making).stat().st_size == size


@pytest.mark.parametrize("point", ["opened", "headed", "chunk", "synced"])
async def test_who_loads_again_at_once_after_a_cancel_gets_the_whole_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    async with house_of(tmp_path, 1) as (node,):
        entry = await model_on(node)
        gate = Gate(monkeypatch, point)
        making = asyncio.create_task(stage(node, entry, 1, 3, "a"))
        await asyncio.to_thread(gate.reached.wait, 10.0)
        making.cancel()
        node.warehouse.release("a")
        again = asyncio.create_task(stage(node, entry, 1, 3, "b"))
        await asyncio.sleep(0.2)
        gate.go_on.set()
        await asyncio.sleep(0.2)
        gate.go_on_again.set()
        with pytest.raises(asyncio.CancelledError):
            await making
        reference = cut(entry.paths[0], stage_key(entry.digest, 1, 3, LAYERS), tmp_path / "reference")
        assert (await again).read_bytes() == reference.read_bytes()
        assert node.warehouse.in_use() >= {await again}


def test_a_disk_that_is_full_when_a_file_is_let_go_keeps_the_first_word(tmp_path: Path) -> None:
    made, _ = assembly_of(write_tiny_llama(tmp_path / "tiny.gguf", layers=4, tied=False), tmp_path / "shards")
    made.open()

    class Full:
        def close(self) -> None:
            raise OSError(28, "No space left on device")

    made._file = Full()  # pyright: ignore[reportAttributeAccessIssue]
    made.close()


class Pieces:
    """An answer."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def readany(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


class Peers:
    """Stand-in peers of which one never answers, or answers too much; the others have all."""

    def __init__(self, source: bytes, offsets: list[int], odd: str) -> None:
        self._source, self._offsets, self._odd = source, offsets, odd

    def peers(self) -> Collection[str]:
        return ("good", "odd")

    @asynccontextmanager
    async def ask(self, peer: str, question: bytes) -> AsyncGenerator[ByteStream]:
        assert peer == "good"
        numbers = decode_question(question).numbers
        yield Pieces([self._source[self._offsets[number] :][:CHUNK] for number in numbers])

    async def fetch(self, peer: str, question: bytes, max_bytes: int) -> bytes:
        assert decode_question(question).wanted is Wanted.HOLDINGS
        if peer == "odd":
            if self._odd == "silent":
                await asyncio.sleep(15.0)
            raise BadFrame("The node answered with too much.")
        return bits_of([0], 1)


def fetch_of(made: Assembly, peers: Peers, pause_s: float) -> Fetch:
    return Fetch(
        made,
        made._manifest,
        "0" * 64,
        peers,
        clock=monotonic,
        told=lambda: None,
        pause=lambda _: asyncio.sleep(pause_s),
    )


@pytest.mark.parametrize("odd", ["silent", "too much"])
async def test_a_peer_that_does_not_say_what_it_has_holds_nobody_up(tmp_path: Path, odd: str) -> None:
    made, source, offsets = flat_assembly(tmp_path, 40)
    peers = Peers(source, offsets, odd)
    made.open()
    fetching = fetch_of(made, peers, 0)
    async with asyncio.timeout(3.0):
        await fetching.run("tiny")
    assert made.finish().read_bytes()[16:] == source


async def test_a_cancel_that_comes_with_a_wake_up_ends_the_fetch(tmp_path: Path) -> None:
    made, source, offsets = flat_assembly(tmp_path, 4)
    peers = Peers(source, offsets, "too much")
    fetching = fetch_of(made, peers, 9)
    made.open()
    running = asyncio.create_task(fetching.run("tiny"))
    await asyncio.sleep(0.02)
    fetching._wake.set()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(2.0):
            await running
    made.close()


def flat_assembly(folder: Path, chunks: int) -> tuple[Assembly, bytes, list[int]]:
    """A shard of one tensor of so many chunks, its weights, and where each chunk stands in them."""
    weights = random.Random(1).randbytes(chunks * CHUNK)
    offsets = [number * CHUNK for number in range(chunks)]
    digests = b"".join(hashlib.sha256(weights[at : at + CHUNK]).digest() for at in offsets)
    of_all = Manifest((PartHeader(9, bytes(32)),), (len(weights),), digests)
    layout = Layout(bytes(16), 16 + len(weights), (Piece(16, len(weights), 0),))
    return Assembly(folder / "flat.gguf", layout, of_all), weights, offsets
