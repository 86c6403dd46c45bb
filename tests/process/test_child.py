"""Child processes for real: calls in order, errors as sentences, deadlines, death as an event, no orphans."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import psutil
import pytest

from peerinfer.errors import ChildDied, ProcessError
from peerinfer.process.child import CallFailed, Child
from peerinfer.process.pipe import FRAME_MAX_BYTES, HEAD, FrameReader
from tests.process import service_under_test as service

MODULE = "tests.process.service_under_test"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.getcwd())


async def test_calls_are_answered_in_order_whatever_their_size() -> None:
    child = await Child.start(MODULE, "test child")
    bodies = [b"a", b"", os.urandom(3_000_000), b"z" * 65_536]
    answers = await asyncio.gather(*(child.post(service.ECHO, body[:10], body[10:]) for body in bodies))
    assert answers == bodies
    await child.stop()
    assert not psutil.pid_exists(child.pid)


async def test_errors_come_back_as_sentences_with_their_code() -> None:
    child = await Child.start(MODULE, "test child")
    with pytest.raises(CallFailed, match="You asked for this") as caught:
        await child.post(service.FAIL)
    assert caught.value.code_text == "bad_request"
    with pytest.raises(CallFailed, match="ValueError: not one of ours"):
        await child.post(service.BREAK)
    assert await child.post(service.ECHO, b"still here") == b"still here"
    await child.stop()


async def test_events_come_before_their_answer_and_prints_do_no_harm() -> None:
    events: list[bytes] = []
    child = await Child.start(MODULE, "test child", on_event=events.append)
    await child.post(service.EVENTS)
    assert events == [b"0", b"1", b"2"]
    assert await child.post(service.PRINT, b"x") == b"x"
    await child.stop()


async def test_death_fails_every_call_and_is_told_once() -> None:
    deaths: list[ChildDied] = []
    child = await Child.start(MODULE, "test child", on_death=deaths.append)
    calls = [child.post(service.DIE), child.post(service.ECHO, b"never")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, ChildDied) for result in results)
    assert "exit status 7" in str(results[0])
    assert "my last words" in str(results[0])
    assert deaths == [results[0]]
    with pytest.raises(ChildDied):
        await child.post(service.ECHO, b"late")


async def test_a_deadline_kills_the_child() -> None:
    child = await Child.start(MODULE, "test child")
    with pytest.raises(ProcessError, match="no answer within"):
        await child.call(service.HANG, deadline_s=0.2)
    await child.stop()
    assert not psutil.pid_exists(child.pid)


async def test_memory_is_limited() -> None:
    child = await Child.start(MODULE, "test child", memory_limit_bytes=1024**3)
    assert await child.post(service.EAT, b"1000000") == b"1000000"
    with pytest.raises(ProcessError, match=r"memory|ended"):
        await child.post(service.EAT, str(4 * 1024**3).encode())
    await child.stop()


async def test_a_module_that_cannot_be_imported_is_a_clear_error() -> None:
    with pytest.raises(ProcessError, match="No module named"):
        await Child.start("peerinfer.no_such_module", "test child")


def test_no_orphan_outlives_a_killed_daemon() -> None:
    """A daemon that is killed outright leaves nothing behind: its child sees the pipe close."""
    script = (
        "import asyncio, sys\n"
        "from peerinfer.process.child import Child\n"
        "async def main():\n"
        f"    child = await Child.start({MODULE!r}, 'test child')\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    daemon = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert daemon.stdout is not None
    child = psutil.Process(int(daemon.stdout.readline()))
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    psutil.wait_procs([child], timeout=20)
    assert not child.is_running()


def test_frames_are_cut_anywhere() -> None:
    stream = b"".join(HEAD.pack(len(body), kind) + body for kind, body in ((0, b"one"), (2, b""), (1, b"x" * 700)))
    for size in (1, 3, 8, 10_000):
        reader = FrameReader()
        frames = [frame for at in range(0, len(stream), size) for frame in reader.feed(stream[at : at + size])]
        assert frames == [(0, b"one"), (2, b""), (1, b"x" * 700)]
    with pytest.raises(ProcessError):
        FrameReader().feed(HEAD.pack(FRAME_MAX_BYTES + 1, 0) + b"x")
