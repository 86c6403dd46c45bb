"""A real node in the background: started, told of, shown in a terminal, and stopped, by the verbs alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.daemons import PEERINFER, VERB_S, Daemon

pytestmark = pytest.mark.slow
HERE = ("--api", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--no-mdns")


@pytest.fixture
def desk(tmp_path: Path) -> Generator[Daemon]:
    daemon = Daemon(tmp_path, "desk")
    yield daemon
    daemon.run("down")


def test_it_outlives_its_starter_and_down_stops_it(desk: Daemon) -> None:
    done = desk.run("up", "--background", "--name", "desk", *HERE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("desk runs in the background: its API answers at http://127.0.0.1:")
    assert desk.verb("status")["node"]["name"] == "desk"
    assert "runs already" in desk.run("up", "--background").stdout
    assert desk.run("down").returncode == 0
    assert "desk" in (desk.home / "daemon.log").read_text()
    assert "peerinfer up" in desk.verb("status", code=1)


def test_a_port_that_is_taken_is_one_sentence(desk: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = ("--api", f"127.0.0.1:{taken.getsockname()[1]}")
        done = desk.run("up", "--background", *HERE, *address)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "--api" in done.stderr
    assert not (desk.home / "daemon.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a test cannot give a process a terminal there")
def test_up_in_a_terminal_shows_the_face_over_a_daemon_that_stays(desk: Daemon, tmp_path: Path) -> None:
    (tmp_path / "tui").mkdir()
    (tmp_path / "tui" / "__init__.py").touch()
    (tmp_path / "tui" / "__main__.py").write_text(
        "import os, sys\n"
        "print('a face for', *sys.argv[1:])\n"
        "sys.exit(5 if os.isatty(0) and os.isatty(1) and sys.stdin.readline() else 6)\n"
    )
    ours, theirs = os.openpty()
    command = [*PEERINFER, "up", "--home", str(desk.home), "--name", "desk", *HERE]
    shown = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while b"\n" not in seen:
        seen += os.read(ours, 4096)
    assert f"a face for --home {desk.home}".encode() in seen
    os.write(ours, b"leave\n")
    _, told = shown.communicate(timeout=VERB_S)
    os.close(ours)
    assert shown.returncode == 5
    assert b"desk runs in the background" in told
    assert desk.verb("status")["node"]["name"] == "desk"
