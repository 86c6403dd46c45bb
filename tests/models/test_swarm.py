"""Who is asked for which chunks: everything arrives if anybody has it, whoever fails, and nobody is asked too much."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from peerinfer.models.exchange import bits_of
from peerinfer.models.manifest import CHUNK_BYTES, DIGEST_BYTES, Manifest, PartHeader, chunks_in
from peerinfer.models.swarm import BAD_MAX, JOB_BYTES, JOB_CHUNKS_MAX, JOBS_PER_PEER, Swarm


def manifest_of(sizes: list[int]) -> Manifest:
    count = sum(chunks_in(size) for size in sizes)
    return Manifest((PartHeader(9, bytes(32)),), tuple(sizes), bytes(count * DIGEST_BYTES))


SIZES = st.lists(st.sampled_from([1, 100, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES]), min_size=1, max_size=30)


@given(SIZES, st.integers(1, 5), st.integers(0, 2**32))
def test_all_arrives_whatever_the_peers_do(sizes: list[int], peers: int, seed: int) -> None:
    chance = random.Random(seed)
    manifest = manifest_of(sizes)
    swarm = Swarm(manifest, range(manifest.n_chunks))
    here: set[int] = set()
    jobs: list[tuple[str, tuple[int, ...]]] = []
    holds = {f"p{n}": [t for t in range(len(sizes)) if chance.random() < 0.5] for n in range(peers)}
    holds["good"] = list(range(len(sizes)))
    for _ in range(10_000):
        if swarm.is_done:
            break
        for peer, tensors in holds.items():
            if peer not in swarm.peers() and (peer == "good" or chance.random() < 0.3):
                swarm.join(peer, bits_of(tensors, len(sizes)))
            while numbers := swarm.job(peer):
                assert {manifest.chunk(number).tensor for number in numbers} <= set(tensors)
                assert sum(manifest.chunk(number).n_bytes for number in numbers) < JOB_BYTES + CHUNK_BYTES
                assert len(numbers) <= JOB_CHUNKS_MAX
                jobs.append((peer, numbers))
            assert swarm.peers().get(peer, 0) <= JOBS_PER_PEER
        assert jobs, "nobody is asked though something is missing"
        peer, numbers = jobs.pop(chance.randrange(len(jobs)))
        for number in numbers:
            what = 1.0 if peer == "good" else chance.random()
            if what < 0.1:
                swarm.damaged(peer, number)
            elif what < 0.2:
                swarm.leave(peer)
                break
            elif what < 0.3:
                break
            else:
                here.add(number)
                swarm.arrived(peer, number)
        swarm.ended(peer, numbers)
    assert swarm.is_done
    assert here == set(range(manifest.n_chunks))


def test_two_peers_are_never_asked_for_the_same_chunk_at_once() -> None:
    manifest = manifest_of([CHUNK_BYTES] * 40)
    swarm = Swarm(manifest, range(40))
    for peer in "ab":
        swarm.join(peer, bits_of(range(40), 40))
    asked = [number for peer in "abab" for number in swarm.job(peer)]
    assert len(asked) == len(set(asked)) == 4 * (JOB_BYTES // CHUNK_BYTES)
    assert swarm.job("a") == ()


def test_a_peer_that_sends_damaged_chunks_is_asked_no_more() -> None:
    manifest = manifest_of([CHUNK_BYTES] * 8)
    swarm = Swarm(manifest, range(8))
    swarm.join("bad", bits_of(range(8), 8))
    numbers = swarm.job("bad")
    for number in numbers[:BAD_MAX]:
        assert not swarm.is_barred("bad")
        swarm.damaged("bad", number)
    assert swarm.is_barred("bad")
    swarm.ended("bad", numbers)
    swarm.join("bad", bits_of(range(8), 8))
    assert swarm.job("bad") == ()
    assert not swarm.is_done
    assert set(swarm.waiting) == set(range(8))


def test_whoever_gave_one_damaged_chunk_is_not_asked_for_it_again() -> None:
    manifest = manifest_of([CHUNK_BYTES] * 2)
    swarm = Swarm(manifest, range(2))
    swarm.join("a", b"\3")
    assert swarm.job("a") == (0, 1)
    swarm.damaged("a", 0)
    swarm.arrived("a", 1)
    swarm.ended("a", (0, 1))
    assert swarm.job("a") == ()
    assert not swarm.is_done
    swarm.join("b", b"\1")
    assert swarm.job("b") == (0,)
    swarm.arrived("b", 0)
    assert swarm.is_done


def test_a_chunk_that_came_late_from_one_who_left_is_not_asked_for_again() -> None:
    manifest = manifest_of([CHUNK_BYTES])
    swarm = Swarm(manifest, range(1))
    swarm.join("a", b"\1")
    assert swarm.job("a") == (0,)
    swarm.leave("a")
    assert swarm.waiting == (0,)
    swarm.arrived("a", 0)
    assert swarm.is_done


def test_bits_that_are_too_few_mean_nothing_held() -> None:
    manifest = manifest_of([1] * 20)
    swarm = Swarm(manifest, range(20))
    swarm.join("a", b"\xff")
    assert swarm.job("a") == tuple(range(8))
    assert swarm.job("unknown") == ()
