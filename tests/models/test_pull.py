"""Pulls end to end, through their child, from a local hub: the cache, resuming, joining, errors as sentences."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import huggingface_hub
import pytest

from peerinfer.errors import (
    AccessDenied,
    BadRequest,
    CorruptModel,
    PeerinferError,
    PullFailed,
    QueueFull,
    UnknownModel,
)
from peerinfer.models.pull import pull as pull_module
from peerinfer.models.pull.calls import Progress
from peerinfer.models.pull.catalogue import Catalogue, CatalogueEntry, bundled_catalogue
from peerinfer.models.pull.pull import PullDesk, Pulled
from peerinfer.models.pull.reference import HubReference
from tests.models.hub_server import LICENCE, TOKEN, HubServer

REPO = "owner/Tiny-GGUF"
FILE = "Tiny-Q4_K_M.gguf"
SIZE = 1_500_000


@pytest.fixture
async def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HubServer]:
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    async with HubServer(tmp_path / "hub", gated={"owner/Gated"}, private={"owner/Private"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


class Person:
    """Pulls, and sees the progress."""

    def __init__(self, folder: Path, catalogue: Catalogue | None = None) -> None:
        self.desk = PullDesk()
        self.folder = folder / "models"
        self.cache = folder / "hf" / "hub"
        self.catalogue = catalogue or Catalogue(())
        self.seen: list[Progress] = []
        self.begun = asyncio.Event()

    def progress(self, progress: Progress) -> None:
        self.seen.append(progress)
        if progress.done_bytes:
            self.begun.set()

    async def pull(self, reference: str) -> Pulled:
        return await self.desk.pull(reference, self.folder, self.catalogue, self.progress)

    def partial_files(self) -> list[Path]:
        return sorted(self.cache.rglob("*.incomplete"))


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


async def test_a_model_of_the_hub_comes_into_the_hubs_own_cache(hub: HubServer, person: Person) -> None:
    data = os.urandom(SIZE)
    digest = hub.put(REPO, FILE, data)
    hub.put(REPO, "Tiny-Q8_0.gguf", b"larger")
    hub.put(REPO, "mmproj-Tiny-F16.gguf", b"a picture tower")
    hub.put(REPO, "README.md", b"# Tiny")
    pulled = await person.pull(f"hf:{REPO}")
    assert pulled == Pulled("tiny-q4_k_m", pulled.paths, (digest,), SIZE, f"hf:{REPO}", LICENCE)
    assert pulled.paths[0].read_bytes() == data
    assert person.seen[-1] == Progress(FILE, SIZE, SIZE)
    assert huggingface_hub.try_to_load_from_cache(REPO, FILE, cache_dir=person.cache) == str(pulled.paths[0])
    assert [request.sent_bytes for request in hub.byte_requests()] == [SIZE]
    assert [request.path for request in hub.requests if request.path.startswith("/api/")] == [f"/api/models/{REPO}"]


async def test_what_the_cache_has_is_not_fetched_again(hub: HubServer, person: Person) -> None:
    hub.put(REPO, FILE, os.urandom(SIZE))
    (person.cache.parent).mkdir(parents=True)
    theirs = await asyncio.to_thread(
        huggingface_hub.hf_hub_download, REPO, FILE, cache_dir=person.cache, endpoint=hub.endpoint
    )
    hub.requests.clear()
    pulled = await person.pull(f"hf:{REPO}:Q4_K_M")
    assert str(pulled.paths[0]) == theirs
    assert hub.byte_requests() == []


async def test_what_the_cache_has_is_enough_without_the_hub(hub: HubServer, person: Person) -> None:
    digest = hub.put(REPO, FILE, os.urandom(SIZE))
    first = await person.pull(f"hf:{REPO}")
    await hub.stop()
    again = await person.pull(f"hf:{REPO}")
    assert (again.paths, again.sha256) == (first.paths, (digest,))
    with pytest.raises(PullFailed, match=r"cannot be reached \(.+\), and the cache does not have it"):
        await person.pull(f"hf:{REPO}:Q8_0")


async def test_a_damaged_file_in_the_cache_is_fetched_anew(hub: HubServer, person: Person) -> None:
    data = os.urandom(SIZE)
    hub.put(REPO, FILE, data)
    first = await person.pull(f"hf:{REPO}")
    blob = first.paths[0].resolve()
    blob.chmod(0o644)
    blob.write_bytes(b"\0" + data[1:])
    again = await person.pull(f"hf:{REPO}")
    assert again.paths[0].read_bytes() == data
    assert len(hub.byte_requests()) == 2


async def test_all_parts_of_a_split_model_are_pulled_in_order(hub: HubServer, person: Person) -> None:
    parts = [f"big/Big-Q4_K_M-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    digests = tuple(hub.put(REPO, part, os.urandom(300_000 + index)) for index, part in enumerate(parts))
    pulled = await person.pull(f"hf:{REPO}/{parts[1]}")
    assert (pulled.name, pulled.sha256, pulled.size_bytes) == ("big-q4_k_m", digests, 900_003)
    assert [path.name for path in pulled.paths] == [Path(part).name for part in parts]
    done = [progress.done_bytes for progress in person.seen]
    assert done == sorted(done)
    assert person.seen[-1].total_bytes == 900_003


async def test_a_cancelled_pull_is_gone_on_from(hub: HubServer, person: Person) -> None:
    data = os.urandom(SIZE)
    hub.put(REPO, FILE, data)
    hub.faults.hold_after = 500_000
    task = asyncio.create_task(person.pull(f"hf:{REPO}"))
    await person.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (partial,) = person.partial_files()
    there = partial.stat().st_size
    assert 0 < there < SIZE
    hub.faults.hold_after = None
    pulled = await person.pull(f"hf:{REPO}")
    assert pulled.paths[0].read_bytes() == data
    assert hub.byte_requests()[-1].first_byte == there
    assert hub.byte_requests()[-1].sent_bytes == SIZE - there
    assert person.partial_files() == []


async def test_a_cut_connection_is_resumed(hub: HubServer, person: Person) -> None:
    data = os.urandom(SIZE)
    hub.put(REPO, FILE, data)
    hub.faults.cuts = [1_000_000]
    pulled = await person.pull(f"hf:{REPO}")
    assert pulled.paths[0].read_bytes() == data
    first, second = hub.byte_requests()
    assert (first.sent_bytes, second.sent_bytes) == (1_000_000, SIZE - second.first_byte)


async def test_wrong_bytes_are_removed_and_told(hub: HubServer, person: Person) -> None:
    hub.put(REPO, FILE, os.urandom(SIZE))
    hub.faults.flipped = True
    with pytest.raises(CorruptModel, match="do not trust this source"):
        await person.pull(f"hf:{REPO}")
    assert [path for path in person.cache.rglob("*") if path.is_file() and path.stat().st_size == SIZE] == []


async def test_a_rate_limit_on_a_question_is_waited_for(hub: HubServer, person: Person) -> None:
    hub.put(REPO, FILE, b"x" * 1000)
    hub.faults.api_statuses = [429]
    hub.faults.retry_after = "0"
    assert (await person.pull(f"hf:{REPO}")).size_bytes == 1000
    hub.faults.api_statuses = [429] * 10
    with pytest.raises(PullFailed, match="HTTP 429"):
        await person.pull(f"hf:{REPO}")


@pytest.mark.parametrize(
    ("reference", "kind", "says"),
    [
        ("hf:owner/Nowhere", UnknownModel, "no repository owner/Nowhere that you may see"),
        ("hf:owner/Private", UnknownModel, "set HF_TOKEN"),
        ("hf:owner/Gated", AccessDenied, "accept its licence on http"),
        ("hf:owner/Empty", UnknownModel, "has no GGUF model"),
        (f"hf:{REPO}:Q2_K", UnknownModel, "has no Q2_K. It has: Q4_K_M, Q8_0."),
        (f"hf:{REPO}/other.gguf", UnknownModel, "It has: Tiny-Q4_K_M.gguf"),
        ("hf:owner/Two", BadRequest, "may mean several models: One-Q4_K_M.gguf, Two-Q4_K_M.gguf"),
        ("nonsense:1b", UnknownModel, "The catalogue has no 'nonsense:1b'"),
        ("/no/such/file.gguf", UnknownModel, "There is no model file"),
        ("what is this?", BadRequest, "does not name a model"),
    ],
)
async def test_errors_say_what_to_do(
    hub: HubServer, person: Person, reference: str, kind: type[PeerinferError], says: str
) -> None:
    for repo, file in (
        (REPO, FILE),
        (REPO, "Tiny-Q8_0.gguf"),
        ("owner/Private", FILE),
        ("owner/Gated", FILE),
        ("owner/Empty", "README.md"),
        ("owner/Two", "One-Q4_K_M.gguf"),
        ("owner/Two", "Two-Q4_K_M.gguf"),
    ):
        hub.put(repo, file, b"GGUF")
    with pytest.raises(kind) as caught:
        await person.pull(reference)
    assert says in str(caught.value)


async def test_what_answers_may_be_no_hub(hub: HubServer, person: Person) -> None:
    hub.faults.api_body = "<html>Please log in to this network</html>"
    with pytest.raises(PullFailed, match="is no hub"):
        await person.pull(f"hf:{REPO}")
    hub.faults.api_body = '{"id": "owner/Tiny-GGUF", "sha": "../../../etc", "siblings": []}'
    with pytest.raises(PullFailed, match="gives no commit"):
        await person.pull(f"hf:{REPO}")
    hub.faults.api_body = (
        '{"id": "o/r", "sha": "'
        + "a" * 40
        + '", "siblings": [{"rfilename": "x-Q4_K_M.gguf", "size": 5, "blobId": "b"}]}'
    )
    with pytest.raises(CorruptModel, match="gives no SHA-256"):
        await person.pull(f"hf:{REPO}")


@pytest.mark.parametrize("repo", ["owner/Gated", "owner/Private"])
async def test_a_token_opens_what_is_closed(
    hub: HubServer, person: Person, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    digest = hub.put(repo, FILE, b"GGUF and more")
    assert (await person.pull(f"hf:{repo}")).sha256 == (digest,)
    assert {request.authorization for request in hub.requests} == {f"Bearer {TOKEN}", ""}
    assert [request.authorization for request in hub.byte_requests()] == [""]


async def test_a_short_name_means_what_the_catalogue_says(hub: HubServer, tmp_path: Path) -> None:
    hub.put(REPO, FILE, b"GGUF")
    entry = CatalogueEntry("tiny:1m", HubReference("owner", "Tiny-GGUF", "Q4_K_M"), "MIT", "llama", 4, 4, default=True)
    person = Person(tmp_path, Catalogue((entry,)))
    pulled = await person.pull("Tiny")
    assert (pulled.name, pulled.licence, pulled.reference) == ("tiny:1m", "MIT", f"hf:{REPO}:Q4_K_M")


async def test_a_file_from_the_web_lands_in_the_folder(hub: HubServer, person: Person) -> None:
    data = os.urandom(SIZE)
    digest = hub.put(REPO, "My Model.gguf", data)
    reference = f"{hub.endpoint}/cdn/{REPO}/My%20Model.gguf#sha256={digest.upper()}"
    pulled = await person.pull(reference)
    assert (pulled.name, pulled.paths) == ("my-model", (person.folder / "My Model.gguf",))
    assert pulled.paths[0].read_bytes() == data
    assert (await person.pull(reference)).paths == pulled.paths
    assert len(hub.byte_requests()) == 1
    other = hub.put(REPO, "My Model.gguf", b"another model of the same name")
    second = await person.pull(f"{hub.endpoint}/cdn/{REPO}/My%20Model.gguf#sha256={other}")
    assert second.paths == (person.folder / f"My Model@{other[:8]}.gguf",)
    assert pulled.paths[0].read_bytes() == data
    assert [path.name for path in person.folder.iterdir() if path.name.startswith(".")] == []


async def test_a_file_of_this_machine_stays_where_it_is(hub: HubServer, person: Person, tmp_path: Path) -> None:
    files = [tmp_path / f"m-{number:05}-of-00002.gguf" for number in (1, 2)]
    for file in files:
        file.write_bytes(file.name.encode())
    pulled = await person.pull(str(files[0]))
    assert (pulled.name, pulled.paths) == ("m", tuple(files))
    assert pulled.sha256 == tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    files[1].unlink()
    with pytest.raises(UnknownModel, match=r"m-00002-of-00002\.gguf is missing"):
        await person.pull(str(files[0]))
    assert hub.requests == []


async def test_a_second_caller_joins_the_first(hub: HubServer, person: Person) -> None:
    hub.put(REPO, FILE, os.urandom(SIZE))
    hub.faults.hold_after = 500_000
    first = asyncio.create_task(person.pull(f"hf:{REPO}"))
    await person.begun.wait()
    joined: list[Progress] = []
    second = asyncio.create_task(person.desk.pull(f"hf.co/{REPO}", person.folder, person.catalogue, joined.append))
    await asyncio.sleep(0)
    assert joined[0] in person.seen
    first.cancel()
    hub.faults.released.set()
    assert (await second).size_bytes == SIZE
    assert first.cancelled()
    assert joined[-1].done_bytes == SIZE
    assert len(hub.byte_requests()) == 1


async def test_too_many_pulls_are_refused_and_those_that_wait_take_turns(
    hub: HubServer, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "PULLS_MAX", 3)
    for number in range(4):
        hub.put(f"owner/m{number}", FILE, os.urandom(100_000))
    hub.faults.hold_after = 0
    tasks = [asyncio.create_task(person.pull(f"hf:owner/m{number}")) for number in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await person.pull("hf:owner/m3")
    hub.faults.released.set()
    assert len({pulled.sha256 for pulled in await asyncio.gather(*tasks)}) == 3
    assert (await person.pull("hf:owner/m3")).size_bytes == 100_000


async def test_two_daemons_on_one_machine_fetch_a_model_once(hub: HubServer, person: Person, tmp_path: Path) -> None:
    hub.put(REPO, FILE, os.urandom(SIZE))
    hub.faults.hold_after = 500_000
    first = asyncio.create_task(person.pull(f"hf:{REPO}"))
    await person.begun.wait()
    other = Person(tmp_path)
    second = asyncio.create_task(other.pull(f"hf:{REPO}"))
    while len([request for request in hub.requests if request.path.startswith("/api/")]) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    hub.faults.released.set()
    assert (await first).paths == (await second).paths
    assert len(hub.byte_requests()) == 1


def test_a_daemon_loads_neither_the_hubs_library_nor_the_fetcher() -> None:
    script = (
        "import sys, peerinfer.models.pull.pull\n"
        "sys.exit(str({'huggingface_hub', 'httpx2', 'aiohttp'} & set(sys.modules)) if "
        "{'huggingface_hub', 'httpx2', 'aiohttp'} & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


async def test_stopping_the_desk_ends_every_pull(hub: HubServer, person: Person) -> None:
    hub.put(REPO, FILE, os.urandom(SIZE))
    hub.faults.hold_after = 500_000
    task = asyncio.create_task(person.pull(f"hf:{REPO}"))
    await person.begun.wait()
    await person.desk.stop()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_bundled_catalogue_can_be_pulled_by_every_name() -> None:
    assert len(bundled_catalogue().entries) >= 20
