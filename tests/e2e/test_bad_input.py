"""What goes wrong for people: each ends with one clear sentence, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.daemons import Daemon, house, pair
from tests.tiny import write_tiny_llama

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair_of_nodes(tmp_path_factory: pytest.TempPathFactory) -> Generator[list[Daemon]]:
    folder = tmp_path_factory.mktemp("pair")
    model = write_tiny_llama(folder / "shared.gguf", layers=4)
    made: list[Daemon] = []
    try:
        made = house(folder, ["desk", "lap"], [model])
        yield made
    finally:
        for daemon in made:
            daemon.stop()


@pytest.fixture
def loner(tmp_path: Path) -> Generator[Daemon]:
    daemon = Daemon(tmp_path, "loner")
    daemon.start()
    try:
        daemon.wait()
        yield daemon
    finally:
        daemon.stop()


def test_models_that_cannot_be_used(pair_of_nodes: list[Daemon], tmp_path: Path) -> None:
    desk = pair_of_nodes[0]
    assert "available:" in desk.verb("load", "no-such-model", code=1)
    whole = write_tiny_llama(tmp_path / "whole.gguf", layers=4).read_bytes()
    truncated, rubbish = tmp_path / "truncated.gguf", tmp_path / "rubbish.gguf"
    truncated.write_bytes(whole[: len(whole) // 2])
    rubbish.write_bytes(os.urandom(5000))
    assert "truncated.gguf" in desk.verb("load", str(truncated), code=1)
    assert "rubbish.gguf" in desk.verb("load", str(rubbish), code=1)
    assert "no model file" in desk.verb("load", str(tmp_path / "absent.gguf"), code=1)
    assert not list((desk.home / "shards").glob("*")) or desk.verb("status")["instances"] == []


def test_a_file_that_ends_the_engine_is_a_sentence_and_the_daemon_goes_on(
    pair_of_nodes: list[Daemon], tmp_path: Path
) -> None:
    """It passes our reader, and llama.cpp aborts on it: more experts are used than there are."""
    desk = pair_of_nodes[0]
    pid = desk.pid
    deadly = write_tiny_llama(tmp_path / "deadly.gguf", layers=4, experts=3, experts_used=99)
    sentence = desk.verb("load", str(deadly), code=1)
    assert "ended unexpectedly" in sentence
    assert "deadly" in sentence
    assert desk.run("unload", "deadly").returncode == 0
    assert desk.verb("load", "shared")["state"] == "ready"
    assert desk.pid == pid
    assert desk.run("unload", "shared").returncode == 0


def test_another_file_of_the_same_name_is_no_copy(pair_of_nodes: list[Daemon], tmp_path: Path) -> None:
    """What is meant is the file of the node that was asked; the other node fetches that one's layers."""
    desk, lap = pair_of_nodes
    for seed, daemon in ((1, desk), (2, lap)):
        write_tiny_llama(daemon.home / "models" / "twin.gguf", layers=4, seed=seed)
    state = desk.until("both know their twins", lambda state: _know(state, "twin") == 2)
    told = {each["name"]: each["snapshot"]["models"] for each in state["members"]}
    own = {name: next(one["digest"] for one in models if one["name"] == "twin") for name, models in told.items()}
    assert own["desk"] != own["lap"]
    for asked in (desk, lap):
        instance = asked.verb("load", "twin", "--min-nodes", "2")
        assert instance["digest"] == own[asked.name]
        assert {stage["name"] for stage in instance["stages"]} == {"desk", "lap"}
        assert desk.run("unload", instance["id"]).returncode == 0


def test_requests_that_are_no_requests(pair_of_nodes: list[Daemon]) -> None:
    api = pair_of_nodes[0].api
    assert _post(api + "/v1/chat/completions", b"{not json") == 400
    assert _post(api + "/v1/chat/completions", b"[]") == 400
    assert _post(api + "/v1/chat/completions", b'{"model": "shared", "messages": [{"role": "user"}]}') == 400
    assert _post(api + "/v1/chat/completions", b"{}", kind="text/plain") == 415
    assert _post(api + "/peerinfer/admin/load", b'{"model": "shared"}') == 401
    assert _post(api + "/v1/models", b"{}", origin="http://evil.example") == 403


def test_wrong_digits_three_times_close_the_invitation(pair_of_nodes: list[Daemon], loner: Daemon) -> None:
    desk = pair_of_nodes[0]
    window = desk.verb("invite")
    assert "already" in desk.verb("invite", code=1)
    wrong = f"{(int(window['code']) + 1) % 1_000_000:06d}"
    for tries_left in (2, 1, 0):
        sentence = loner.verb("join", wrong, "--host", f"127.0.0.1:{window['port']}", "--yes", code=1)
        assert "does not match" in sentence
        assert str(tries_left) in sentence or tries_left == 0
    closed = loner.verb("join", window["code"], "--host", f"127.0.0.1:{window['port']}", "--yes", code=1)
    assert "invitation" in closed
    assert len(loner.verb("status")["members"]) == 1
    pair(desk, loner)
    assert "already in a mesh" in loner.verb("join", "123456", "--host", "127.0.0.1:1", "--yes", code=1)
    assert desk.run("remove", "loner").returncode == 0
    desk.until("it is removed", lambda state: len(state["members"]) == 2)


def test_homes_and_ports_in_use(loner: Daemon, tmp_path: Path) -> None:
    assert f"pid {loner.pid}" in _refused_start(loner)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = Daemon(tmp_path, "other")
        assert "--api" in _refused_start(other, "--api", f"127.0.0.1:{port}")
        assert "--listen" in _refused_start(other, "--listen", f"127.0.0.1:{port}")
    assert not (other.home / "daemon.json").exists()


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root can make another user's folder")
def test_a_home_of_another_user_is_refused(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "theirs")
    os.chown(daemon.home, 1, 1)
    assert "belongs to another user" in _refused_start(daemon)
    assert [path.name for path in daemon.home.iterdir()] == ["models"]


def test_verbs_without_a_daemon_and_wrong_usage(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "absent")
    assert "peerinfer up" in daemon.verb("status", code=1)
    assert daemon.run("load").returncode == 2
    assert daemon.run("up", "--api", "nonsense").returncode == 2
    for verb in ("up", "invite", "join", "load", "chat", "status", "demo"):
        shown = daemon.run(verb, "--help")
        assert shown.returncode == 0
        assert "usage" in shown.stdout.lower()


def _refused_start(daemon: Daemon, *options: str) -> str:
    address = ("--api", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--no-mdns")
    done = daemon.run("up", "--headless", *address, *options)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def _know(state: dict[str, list[dict[str, dict[str, list[dict[str, str]]]]]], name: str) -> int:
    return sum(
        model["name"] == name for member in state["members"] for model in (member["snapshot"] or {}).get("models", [])
    )


def _post(url: str, body: bytes, kind: str = "application/json", origin: str = "") -> int:
    headers = {"Content-Type": kind} | ({"Origin": origin} if origin else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
