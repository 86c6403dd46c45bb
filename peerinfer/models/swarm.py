"""Who is asked for which chunks of a model: several peers at once, nobody twice for what it did not give. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from peerinfer.models.manifest import Manifest

JOB_BYTES: Final = 16 << 20
"""Asked for at once: long enough that a round trip costs nothing, short enough that a slow peer holds little back."""
JOB_CHUNKS_MAX: Final = 1024
"""Small tensors are asked for together."""
JOBS_PER_PEER: Final = 2
"""Under way with one peer, so that its line never waits for a question."""
BAD_MAX: Final = 3
"""Damaged chunks after which a peer is asked no more: its disk, or it, is not to be trusted."""


class Swarm:
    """The chunks of one shard that are still missing, and the peers that may have them."""

    def __init__(self, manifest: Manifest, missing: Iterable[int]) -> None:
        self._manifest = manifest
        self._waiting = dict.fromkeys(missing)
        self._jobs: dict[str, list[set[int]]] = {}
        self._has: dict[str, bytes] = {}
        self._bad = Counter[str]()
        self._refused: set[tuple[str, int]] = set()
        """(peer, chunk) that the peer gave damaged."""
        self._spent: set[str] = set()
        """Peers that have nothing of what waits, which to find out takes long for a large model."""

    @property
    def is_done(self) -> bool:
        """Whether every chunk has arrived."""
        return not self._waiting and not any(self._jobs.values())

    @property
    def waiting(self) -> tuple[int, ...]:
        """Chunks that nobody is asked for at the moment."""
        return tuple(self._waiting)

    def is_barred(self, peer: str) -> bool:
        """Whether this peer gave so much that was damaged that it is asked no more."""
        return self._bad[peer] >= BAD_MAX

    def peers(self) -> Mapping[str, int]:
        """The peers that are asked, each with the number of its jobs."""
        return {peer: len(self._jobs.get(peer, ())) for peer in self._has}

    def join(self, peer: str, tensors: bytes) -> None:
        """A peer has the tensors whose bits are set (bit n % 8 of byte n // 8 for tensor n)."""
        if not self.is_barred(peer):
            self._has[peer] = tensors
            self._spent.discard(peer)

    def leave(self, peer: str) -> None:
        """A peer is gone: what it was asked for waits again."""
        self._has.pop(peer, None)
        for job in self._jobs.pop(peer, ()):
            self._wait(job)

    def job(self, peer: str) -> tuple[int, ...]:
        """The chunks to ask `peer` for now; none if there is nothing for it, or it has enough to do."""
        if len(self._jobs.get(peer, ())) >= JOBS_PER_PEER or self.is_barred(peer) or peer not in self._has:
            return ()
        if peer in self._spent:
            return ()
        taken: list[int] = []
        size = 0
        for number in self._waiting:
            if size >= JOB_BYTES or len(taken) >= JOB_CHUNKS_MAX:
                break
            if self._gives(peer, number):
                taken.append(number)
                size += self._manifest.chunk(number).n_bytes
        for number in taken:
            del self._waiting[number]
        if not taken:
            self._spent.add(peer)
        else:
            self._jobs.setdefault(peer, []).append(set(taken))
        return tuple(taken)

    def arrived(self, peer: str, number: int) -> None:
        """A chunk is there, verified; nobody else need give it."""
        self._take(peer, number)
        self._waiting.pop(number, None)

    def damaged(self, peer: str, number: int) -> None:
        """What the peer sent is not the chunk: somebody else is asked for it."""
        self._bad[peer] += 1
        self._refused.add((peer, number))
        self._take(peer, number)
        self._wait((number,))
        if self.is_barred(peer):
            self._has.pop(peer, None)

    def ended(self, peer: str, numbers: Iterable[int]) -> None:
        """A job is over: what of it has not arrived waits again."""
        left = {number for number in numbers if any(number in job for job in self._jobs.get(peer, ()))}
        for number in left:
            self._take(peer, number)
        self._wait(left)
        if peer in self._jobs:
            self._jobs[peer] = [job for job in self._jobs[peer] if job]

    def _take(self, peer: str, number: int) -> None:
        for job in self._jobs.get(peer, ()):
            job.discard(number)
        if peer in self._jobs:
            self._jobs[peer] = [job for job in self._jobs[peer] if job]

    def _wait(self, numbers: Iterable[int]) -> None:
        if fresh := set(numbers):
            self._waiting = dict.fromkeys(sorted({*self._waiting, *fresh}))
            self._spent.clear()

    def _gives(self, peer: str, number: int) -> bool:
        tensor = self._manifest.chunk(number).tensor
        has = self._has[peer]
        held = tensor // 8 < len(has) and bool(has[tensor // 8] >> (tensor % 8) & 1)
        return held and (peer, number) not in self._refused
