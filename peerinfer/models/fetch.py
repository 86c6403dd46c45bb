"""Fills a shard with what peers have: several at once, each chunk verified, until it is whole or nobody can help."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from peerinfer.clock import Clock
from peerinfer.errors import LinkDown, LinkError, ModelError
from peerinfer.models.assembly import Assembly
from peerinfer.models.exchange import Question, Wanted, encode_question
from peerinfer.models.manifest import TENSORS_MAX, Manifest
from peerinfer.models.swarm import JOBS_PER_PEER, Swarm

LOOK_EVERY_S: Final = 1.0
"""How often new peers are looked for; one that failed is asked again no sooner than `RETRY_S`."""
RETRY_S: Final = 3.0
ORIGIN_AFTER_S: Final = 5.0
"""Without a new chunk for so long, the place that the model came from is asked, too."""
FAILURES_MAX: Final = 4
"""Each failure in a row doubles the time until a peer is asked again, up to 16 times."""
STALL_S: Final = 90.0
"""Without a new chunk for this long, the shard is given up: longer than a node needs to restart."""
PEERS_MAX: Final = 8
"""Peers that are asked at once: their streams together fill any line."""

log = logging.getLogger(__name__)


class ByteStream(Protocol):
    """What an answer is read from."""

    async def readany(self) -> bytes:
        """What has come, at least one byte; none at the end."""
        ...


class Peers(Protocol):
    """How other nodes are asked; `net.bulk.BulkClient` is one."""

    def peers(self) -> Collection[str]:
        """Who can be asked now."""
        ...

    def ask(self, peer: str, question: bytes) -> AbstractAsyncContextManager[ByteStream]:
        """The stream that answers. Raises `LinkError`."""
        ...

    async def fetch(self, peer: str, question: bytes, max_bytes: int) -> bytes:
        """The whole answer. Raises `LinkError`."""
        ...


class Fetch:
    """One shard of the model `digest` being filled. `run` ends when it is whole."""

    def __init__(
        self,
        assembly: Assembly,
        manifest: Manifest,
        digest: str,
        peers: Peers,
        *,
        origin: Peers | None = None,
        clock: Clock,
        told: Callable[[], None],
        pause: Callable[[int], Awaitable[None]],
    ) -> None:
        """`origin` is asked when no peer gives anything.

        `told` hears of each chunk; `pause` waits after so many bytes while this node has better to do.
        """
        self._assembly = assembly
        self._manifest = manifest
        self._digest = digest
        self._peers = peers
        self._clock = clock
        self._told = told
        self._pause = pause
        self._origin = origin
        self._swarm = Swarm(manifest, assembly.missing)
        self._again: dict[str, float] = {}
        """When a peer that failed, or had nothing, may be asked again."""
        self._greeted: set[str] = set()
        """Who is just being asked what it has."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = 0.0
        self._wake = asyncio.Event()
        self._error: Exception | None = None
        self._is_over = False
        self._behind: set[str] = set()
        """Who is asked besides the peers, since those gave nothing for a while."""
        self._failures = Counter[str]()
        """Jobs of a peer that failed in a row."""

    async def run(self, model: str) -> None:
        """Fetches all that is missing. Raises `ModelError` if it cannot be had, `HomeError` if it cannot be written."""
        self._last = self._clock()
        try:
            while not self._swarm.is_done and self._error is None:
                self._look()
                self._start_jobs()
                if self._clock() - self._last > STALL_S:
                    missing = self._assembly.missing_bytes / 1e6
                    raise ModelError(
                        f"{missing:.0f} MB of {model} are missing here, and no node that is up gives them. "
                        "Switch on the node that has the model, or pull it again."
                    )
                await self._rest()
            if self._error is not None:
                raise self._error
        finally:
            self._is_over = True
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _rest(self) -> None:
        """Until a job has ended, or it is time to look around."""
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._wake.wait()

    def _look(self) -> None:
        """Asks those who came what they have; forgets those who went."""
        now, here = self._clock(), set(self._peers.peers())
        if self._origin is not None and now - self._last > ORIGIN_AFTER_S:
            self._behind.update(self._origin.peers())
        here |= self._behind
        known = set(self._swarm.peers())
        for peer in known - here:
            self._swarm.leave(peer)
        room = PEERS_MAX - len(known & here)
        fresh = [peer for peer in sorted(here - known - self._greeted) if now >= self._again.get(peer, 0.0)]
        for peer in [peer for peer in fresh if not self._swarm.is_barred(peer)][: max(0, room)]:
            self._again[peer] = now + RETRY_S
            self._greeted.add(peer)
            self._spawn(self._greet(peer))

    async def _greet(self, peer: str) -> None:
        """Asks a peer what it has; one that does not say so holds nobody up."""
        question = encode_question(Question(Wanted.HOLDINGS, self._digest))
        try:
            held = await self._way(peer).fetch(peer, question, TENSORS_MAX // 8)
        except LinkError as error:
            log.debug("%s did not say what it has of %s: %s", peer[:8], self._digest[:12], error)
        else:
            if any(held):
                self._swarm.join(peer, held)
        finally:
            self._greeted.discard(peer)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _way(self, peer: str) -> Peers:
        return self._origin if self._origin is not None and peer in self._behind else self._peers

    def _start_jobs(self) -> None:
        for peer, running in self._swarm.peers().items():
            for _ in range(running, JOBS_PER_PEER):
                numbers = self._swarm.job(peer)
                if not numbers:
                    break
                self._spawn(self._job(peer, numbers))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error if isinstance(error, Exception) else None
        if not self._is_over and self._error is None:
            self._start_jobs()
        self._wake.set()

    async def _job(self, peer: str, numbers: tuple[int, ...]) -> None:
        question = encode_question(Question(Wanted.CHUNKS, self._digest, numbers))
        try:
            async with self._way(peer).ask(peer, question) as stream:
                async for number, content in self._chunks(stream, numbers):
                    await self._take(peer, number, content)
            self._swarm.ended(peer, numbers)
        except LinkError as error:
            log.info("A piece of %s did not come from %s (%s).", self._digest[:12], peer[:8], error)
            self._swarm.ended(peer, numbers)
            self._swarm.leave(peer)
            self._failures[peer] += 1
            self._again[peer] = self._clock() + RETRY_S * 2 ** min(self._failures[peer] - 1, FAILURES_MAX)
        except BaseException:
            self._swarm.ended(peer, numbers)
            raise

    async def _take(self, peer: str, number: int, content: bytearray) -> None:
        if not await asyncio.to_thread(self._assembly.put, number, content):
            log.warning("The node %s sent a damaged piece of %s.", peer[:8], self._digest[:12])
            self._swarm.damaged(peer, number)
            return
        self._swarm.arrived(peer, number)
        self._last = self._clock()
        self._failures[peer] = 0
        self._told()
        await self._pause(len(content))

    async def _chunks(self, stream: ByteStream, numbers: tuple[int, ...]) -> AsyncIterator[tuple[int, bytearray]]:
        """The chunks one after the other, each gathered by one copy. Raises `LinkDown` if the stream ends early."""
        rest = memoryview(b"")
        for number in numbers:
            content = bytearray(self._manifest.chunk(number).n_bytes)
            filled = 0
            while filled < len(content):
                if not rest and not (rest := memoryview(await stream.readany())):
                    raise LinkDown("The stream ended early.")
                taken = rest[: len(content) - filled]
                content[filled : filled + len(taken)] = taken
                filled += len(taken)
                rest = rest[len(taken) :]
            yield number, content
