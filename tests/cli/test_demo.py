"""The demo over processes that act as daemons: what it does in which order, and that it always cleans up."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from peerinfer.cli import demo, demo_nodes
from peerinfer.cli.demo import DemoPlan, show_demo
from peerinfer.errors import BadRequest, DaemonAbsent, NoPlacement
from tests.api.fakes import MODEL, PROMPT_TOKENS

PLAN = DemoPlan(3, "", (), "hi", 9, False, (sys.executable, "-m", "tests.cli.fake_daemon"))
IDS = [hashlib.sha256(f"demo-{i + 1}".encode()).hexdigest()[:32] for i in range(3)]


@pytest.fixture(autouse=True)
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Homes are made here, so that a test sees what is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "MEASURE_S", 0.1)  # the fakes measure nothing
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return tmp_path


def _left(workshop: Path) -> tuple[list[int], list[Path]]:
    """Processes and files that a demo has left behind."""
    return _running(workshop), list(workshop.iterdir())


def _running(workshop: Path) -> list[int]:
    found: list[int] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(workshop) in argument for argument in process.cmdline()):
                found.append(process.pid)
    return found


async def test_demo_shows_stages_hops_and_the_answer(workshop: Path) -> None:
    shown = await show_demo(replace(PLAN, cuts=(5, 11)), quiet=True)
    assert shown["text"] == "Hello \u00e4\u2028\U0001f600"
    assert (shown["prompt_token_ids"], shown["token_ids"]) == (list(PROMPT_TOKENS), [100, 101, 102])
    assert (shown["tokens_per_s"], shown["ttft_ms"], shown["model"]) == (80.0, 12.5, MODEL)
    assert [(stage["node"], stage["layers"]) for stage in shown["stages"]] == [
        (IDS[0], [0, 5]),
        (IDS[1], [5, 11]),
        (IDS[2], [11, 30]),
    ]
    assert [(hop["from"], hop["to"]) for hop in shown["hops"]] == list(zip(IDS, [*IDS[1:], IDS[0]], strict=True))
    assert shown["hops"][0]["ms"] == 0.1
    assert shown["leader"] == IDS[0]
    assert _left(workshop) == ([], [])


async def test_demo_prints_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    await show_demo(replace(PLAN, nodes=2), quiet=False)
    captured = capsys.readouterr()
    assert captured.out.startswith("Hello")
    assert "demo-1  0-30    llama.cpp" in captured.out
    assert "80.0 tokens/s" in captured.out
    assert "Pairing demo-2 with demo-1" in captured.err


@pytest.mark.parametrize(
    ("broken", "error", "sentence"),
    [
        ("start", DaemonAbsent, "The dog ate the home folder"),
        ("load", NoPlacement, "Nothing fits anywhere"),
    ],
)
async def test_a_demo_that_fails_leaves_nothing(
    broken: str, error: type[Exception], sentence: str, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DAEMON", broken)
    with pytest.raises(error, match=sentence):
        await show_demo(PLAN, quiet=True)
    assert _left(workshop) == ([], [])


async def test_a_daemon_that_does_not_stop_is_ended(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DAEMON", "stop")
    monkeypatch.setattr(demo_nodes, "STOP_S", 0.2)
    await show_demo(replace(PLAN, nodes=1), quiet=True)
    assert _left(workshop) == ([], [])


async def test_a_demo_that_is_interrupted_leaves_nothing(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    showing = asyncio.create_task(show_demo(replace(PLAN, nodes=2), quiet=True))
    async with asyncio.timeout(60):
        while "Pairing" not in said.getvalue():  # noqa: ASYNC110  (what it prints is all that tells)
            await asyncio.sleep(0.01)
    assert len(_running(workshop)) == 2
    showing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await showing
    assert _left(workshop) == ([], [])


async def test_unknown_models_are_told_before_and_after_the_start(workshop: Path) -> None:
    with pytest.raises(BadRequest, match=r"There is no file .*absent\.gguf"):
        await show_demo(replace(PLAN, model=str(workshop / "absent.gguf")), quiet=True)
    with pytest.raises(BadRequest, match="There is no model 'other'"):
        await show_demo(replace(PLAN, nodes=1, model="other"), quiet=True)


async def test_kept_nodes_live_on_and_are_named(workshop: Path) -> None:
    shown = await show_demo(replace(PLAN, nodes=2, keep=True), quiet=True)
    try:
        assert [node["name"] for node in shown["nodes"]] == ["demo-1", "demo-2"]
        assert all(node["api"].startswith("127.0.0.1:") for node in shown["nodes"])
        assert len(_running(workshop)) == 2
    finally:
        for pid in _running(workshop):
            psutil.Process(pid).kill()
