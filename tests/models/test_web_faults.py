"""Fetching over TLS, and under whatever a network does: the right bytes come under the name, or nothing does."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerinfer.errors import CorruptModel, PullFailed
from peerinfer.models.pull.web import Limits, Source, fetch
from tests.models.fetching import FILE, QUICK, REPO, Place, certificate
from tests.models.hub_server import Faults, HubServer

SIZE = 300_000


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(0, SIZE), max_size=6),
    statuses=st.lists(st.sampled_from([416, 429, 500, 503]), max_size=4),
    left=st.integers(0, SIZE + 10),
    wrong=st.booleans(),
    no_ranges=st.booleans(),
    known=st.booleans(),
)
def test_whatever_happens_the_name_is_for_the_right_bytes(
    *, cuts: list[int], statuses: list[int], left: int, wrong: bool, no_ranges: bool, known: bool
) -> None:
    """`left` bytes are left of an earlier fetch, of this file or, if `wrong`, of another."""

    async def run(folder: Path) -> None:
        async with HubServer(folder / "hub") as hub:
            place = Place(hub, folder, SIZE)
            hub.faults = Faults(cuts=list(cuts), statuses=list(statuses), no_ranges=no_ranges)
            place.partial.parent.mkdir()
            place.partial.write_bytes(b"\0" * left if wrong else (place.data + b"\0" * 10)[:left])
            try:
                await place.fetch(Limits(tries=12, wait_s=0.0, wait_max_s=0.0), size_bytes=SIZE if known else 0)
            except CorruptModel:
                assert place.left_nothing()
                await place.fetch(Limits(tries=12, wait_s=0.0, wait_max_s=0.0))
            assert place.final.read_bytes() == place.data
            assert [path.name for path in place.final.parent.iterdir()] == [FILE]

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def test_https_is_fetched_if_its_certificate_is_trusted(tmp_path: Path) -> None:
    server, client = certificate(tmp_path)
    async with HubServer(tmp_path / "hub", tls=server) as hub:
        place = Place(hub, tmp_path)
        source = Source(hub.url(REPO, FILE), place.sha256, FILE)
        with pytest.raises(PullFailed, match="cannot prove who it is"):
            await fetch(source, place.partial, place.final, place.progress, limits=QUICK)
        await fetch(source, place.partial, place.final, place.progress, limits=QUICK, tls=client)
        assert place.final.read_bytes() == place.data


async def test_https_does_not_lead_to_http(tmp_path: Path) -> None:
    server, client = certificate(tmp_path)
    async with HubServer(tmp_path / "hub") as plain, HubServer(tmp_path / "hub", tls=server) as hub:
        place = Place(plain, tmp_path)
        hub.faults.location = place.hub.url(REPO, FILE)
        source = Source(f"{hub.endpoint}/{REPO}/resolve/main/{FILE}", place.sha256, FILE)
        with pytest.raises(PullFailed, match="from https to http"):
            await fetch(source, place.partial, place.final, place.progress, limits=QUICK, tls=client)
    assert plain.requests == []
