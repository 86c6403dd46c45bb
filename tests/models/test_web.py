"""Fetching over HTTP: cut, resumed, redirected, refused, slow, limited; and that only the right bytes get a name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from peerinfer.errors import AccessDenied, CorruptModel, DiskFull, PullFailed, UnknownModel
from peerinfer.models.pull import web
from peerinfer.models.pull.redirects import next_url
from peerinfer.models.pull.web import Limits, Source, fetch
from tests.models.fetching import FILE, QUICK, REPO, Place
from tests.models.hub_server import HubServer


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[HubServer]:
    async with HubServer(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def place(hub: HubServer, tmp_path: Path) -> Place:
    return Place(hub, tmp_path)


async def test_a_file_is_fetched_once_and_verified(place: Place) -> None:
    assert await place.fetch() == len(place.data)
    assert place.final.read_bytes() == place.data
    assert place.seen[-1] == (len(place.data), len(place.data))
    assert [path.name for path in place.final.parent.iterdir()] == [FILE]
    assert place.hub.byte_requests()[0].sent_bytes == len(place.data)


async def test_a_cut_connection_is_resumed_where_it_was(place: Place) -> None:
    arrived = asyncio.Event()
    place.hub.faults.cuts = [1_000_000]
    place.hub.faults.before_cut = arrived

    def progress(done: int, _: int) -> None:
        if done == 1_000_000:
            arrived.set()

    source = Source(place.hub.url(REPO, FILE), place.sha256, FILE)
    await fetch(source, place.partial, place.final, progress, limits=QUICK)
    assert place.final.read_bytes() == place.data
    first, second = place.hub.byte_requests()
    assert (first.sent_bytes, second.first_byte) == (1_000_000, 1_000_000)
    assert second.sent_bytes == len(place.data) - 1_000_000
    assert second.if_range


async def test_many_cuts_that_bring_something_are_no_failure(place: Place) -> None:
    place.hub.faults.cuts = [300_000] * 5
    await place.fetch()
    assert place.final.read_bytes() == place.data


async def test_cuts_that_bring_nothing_end_with_what_came_kept(place: Place) -> None:
    place.hub.faults.cuts = [0] * 50
    with pytest.raises(PullFailed, match="pull again to go on"):
        await place.fetch()
    assert not place.final.exists()
    assert len(place.hub.byte_requests()) == QUICK.tries


async def test_another_fetch_goes_on_from_what_is_there(place: Place) -> None:
    place.partial.parent.mkdir()
    place.partial.write_bytes(place.data[:700_000])
    await place.fetch()
    (request,) = place.hub.byte_requests()
    assert (request.first_byte, request.sent_bytes) == (700_000, len(place.data) - 700_000)


async def test_a_whole_partial_file_needs_no_byte_if_its_size_is_known(place: Place) -> None:
    place.partial.parent.mkdir()
    place.partial.write_bytes(place.data)
    await place.fetch(size_bytes=len(place.data))
    assert place.hub.requests == []
    assert place.final.read_bytes() == place.data


async def test_a_whole_partial_file_of_unknown_size_is_fetched_anew(place: Place) -> None:
    place.partial.parent.mkdir()
    place.partial.write_bytes(place.data)
    await place.fetch()
    assert place.final.read_bytes() == place.data


async def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(place: Place) -> None:
    place.hub.faults.hold_after = 500_000
    task = asyncio.create_task(place.fetch())
    await place.begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert place.partial.stat().st_size > 0
    place.hub.faults.hold_after = None
    place.hub.faults.etag = '"another"'
    await place.fetch()
    assert place.hub.byte_requests()[-1].sent_bytes == len(place.data)
    assert place.final.read_bytes() == place.data


async def test_refused_ranges_start_again(place: Place) -> None:
    place.partial.parent.mkdir()
    place.partial.write_bytes(place.data[:700_000])
    place.hub.faults.no_ranges = True
    await place.fetch()
    assert place.final.read_bytes() == place.data
    assert place.hub.byte_requests()[-1].sent_bytes == len(place.data)


@pytest.mark.parametrize("resumed", [False, True])
async def test_wrong_bytes_never_get_the_name(place: Place, resumed: bool) -> None:
    if resumed:
        place.partial.parent.mkdir()
        place.partial.write_bytes(b"\0" * 700_000)
    else:
        place.hub.faults.flipped = True
    with pytest.raises(CorruptModel, match="SHA-256"):
        await place.fetch()
    assert place.left_nothing()


async def test_a_token_is_sent_to_its_own_server_only(place: Place, tmp_path: Path) -> None:
    async with HubServer(tmp_path / "hub") as other:
        place.hub.faults.location = other.url(REPO, FILE)
        url = f"{place.hub.endpoint}/{REPO}/resolve/main/{FILE}"
        await place.fetch(url=url, headers={"Authorization": "Bearer secret"})
        assert [request.authorization for request in place.hub.requests] == ["Bearer secret"]
        assert [request.authorization for request in other.requests] == [""]


async def test_redirects_are_followed_up_to_a_limit(place: Place) -> None:
    url = f"{place.hub.endpoint}/{REPO}/resolve/main/{FILE}"
    place.hub.faults.redirects = QUICK.redirects
    await place.fetch(url=url)
    place.final.unlink()
    place.hub.faults.redirects = QUICK.redirects + 1
    with pytest.raises(PullFailed, match="redirected more than 5 times"):
        await place.fetch(url=url)


async def test_a_loop_of_redirects_ends(place: Place) -> None:
    place.hub.faults.location = url = f"{place.hub.endpoint}/{REPO}/resolve/main/{FILE}"
    with pytest.raises(PullFailed, match="redirected more than"):
        await place.fetch(url=url)
    assert len(place.hub.requests) == QUICK.redirects + 1


@pytest.mark.parametrize("location", ["http://example.org/x.gguf", "ftp://127.0.0.1/x", "https://me:pw@h/x", "", "//["])
async def test_redirects_to_unsafe_places_are_not_followed(place: Place, location: str) -> None:
    place.hub.faults.location = location or " "
    with pytest.raises(PullFailed, match="redirect"):
        await place.fetch(url=f"{place.hub.endpoint}/{REPO}/resolve/main/{FILE}")


def test_a_hub_without_tls_may_redirect_within_itself() -> None:
    assert str(next_url(URL("http://hub.lan/a"), "/b?c=%2B")) == "http://hub.lan/b?c=%2B"
    for target in ("http://other.lan/b", "http://hub.lan:81/b", "http://me:pw@hub.lan/b"):
        with pytest.raises(PullFailed, match="only https"):
            next_url(URL("http://hub.lan/a"), target)


def test_https_never_becomes_http() -> None:
    assert str(next_url(URL("https://h/a"), "/b")) == "https://h/b"
    with pytest.raises(PullFailed, match="https to http"):
        next_url(URL("https://h/a"), "http://127.0.0.1/b")


@pytest.mark.parametrize(
    ("status", "kind", "requests"),
    [(401, AccessDenied, 1), (403, AccessDenied, 1), (404, UnknownModel, 1), (410, UnknownModel, 1), (500, None, 2),
     (429, None, 2), (503, None, 2), (416, None, 2), (418, PullFailed, 1), (304, PullFailed, 1)],
)  # fmt: skip
async def test_statuses(place: Place, status: int, kind: type[Exception] | None, requests: int) -> None:
    place.hub.faults.statuses = [status]
    if kind is None:
        await place.fetch()
        assert place.final.read_bytes() == place.data
    else:
        with pytest.raises(kind):
            await place.fetch()
        assert place.final.exists() is False
    assert len(place.hub.byte_requests()) == requests


async def test_a_server_that_wants_a_long_pause_is_not_waited_for(place: Place) -> None:
    place.hub.faults.statuses = [429]
    place.hub.faults.retry_after = "3600"
    with pytest.raises(PullFailed, match="try again in 60 minutes"):
        await place.fetch()
    assert len(place.hub.requests) == 1


async def test_a_rate_limit_that_lasts_is_told(place: Place) -> None:
    place.hub.faults.statuses = [429] * 50
    with pytest.raises(PullFailed, match="limits how much"):
        await place.fetch()


async def test_a_server_that_falls_silent_is_left(place: Place) -> None:
    place.hub.faults.hold_after = 0
    with pytest.raises(PullFailed, match="came to a halt"):
        await place.fetch(Limits(read_s=0.2, tries=2, wait_s=0.0, wait_max_s=0.0))
    assert len(place.hub.byte_requests()) == 2


async def test_silence_in_the_middle_keeps_what_came(place: Place) -> None:
    place.hub.faults.hold_after = 200_000
    with pytest.raises(PullFailed, match="cut off too often"):
        await place.fetch(Limits(read_s=0.2, attempts=1))
    there = place.partial.stat().st_size
    assert there > 0
    place.hub.faults.hold_after = None
    await place.fetch()
    assert place.hub.byte_requests()[-1].first_byte == there
    assert place.final.read_bytes() == place.data


async def test_a_slow_drip_is_cut(place: Place) -> None:
    place.hub.faults.cuts = [400_000]
    limits = Limits(window_s=0.0, least_bytes_per_s=1e15, tries=2, wait_s=0.0, attempts=3)
    with pytest.raises(PullFailed, match="cut off too often"):
        await place.fetch(limits)
    assert len(place.hub.byte_requests()) == 3
    assert not place.final.exists()


async def test_a_compressed_answer_and_one_without_size_are_refused(place: Place) -> None:
    place.hub.faults.extra_headers = {"Content-Encoding": "gzip"}
    with pytest.raises(PullFailed, match="compressed"):
        await place.fetch()


async def test_another_size_than_the_hub_tells_is_refused(place: Place) -> None:
    with pytest.raises(PullFailed, match="has another"):
        await place.fetch(size_bytes=5)


async def test_a_full_disk_is_noticed_before_the_first_byte(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, n_bytes: int, name: str) -> None:
        raise DiskFull(f"{name} needs {n_bytes}")

    monkeypatch.setattr(web, "check_room", full)
    with pytest.raises(DiskFull, match=str(len(place.data))):
        await place.fetch()
    assert place.seen == []


async def test_large_files_are_asked_for_in_slices(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "RANGE_MAX_BYTES", 600_000)
    await place.fetch(size_bytes=len(place.data), immutable=True)
    requests = place.hub.byte_requests()
    assert [request.range for request in requests] == [
        "bytes=0-599999",
        "bytes=600000-1199999",
        "bytes=1200000-1799999",
        "bytes=1800000-",
    ]
    assert sum(request.sent_bytes for request in requests) == len(place.data)
    assert place.final.read_bytes() == place.data


async def test_nobody_there(place: Place) -> None:
    await place.hub.stop()
    with pytest.raises(PullFailed, match="broke"):
        await place.fetch()
