"""`config` and `plan` through a real daemon: a setting holds at once, is kept, and is not lost to a damaged file."""

from __future__ import annotations

import json
from collections.abc import Generator

import pytest

from tests.e2e.daemons import Daemon
from tests.tiny import write_tiny_llama

pytestmark = pytest.mark.slow


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    folder = tmp_path_factory.mktemp("house")
    made = Daemon(folder, "desk", [write_tiny_llama(folder / "tiny.gguf", layers=6)])
    made.start()
    made.wait()
    made.until("it leads itself", lambda state: bool(state["mesh"]["leader"]))
    yield made
    made.stop()


def test_settings_take_effect_at_once_and_stay(daemon: Daemon) -> None:
    assert [one["layers"] for one in daemon.verb("plan", "tiny", "--context", "512")["stages"]] == [[0, 6]]
    assert daemon.verb("config", "exclude", "yes") == {"exclude": True}
    sentence = daemon.verb("plan", "tiny", "--context", "512", code=1)
    assert "config exclude" in sentence
    assert "Let desk take part: its owner keeps it out; `peerinfer config exclude no` there." in sentence
    assert "kept out by its owner" in daemon.verb("load", "tiny", "--context", "512", code=1)
    assert "memory-limit is a number" in daemon.verb("config", "memory-limit", "some", code=1)
    daemon.stop()
    assert daemon.verb("config")["exclude"] is True
    assert daemon.verb("config", "exclude", "no") == {"exclude": False}
    (daemon.home / "daemon.json").unlink(missing_ok=True)
    daemon.start()
    daemon.wait()
    daemon.until("it leads itself", lambda state: bool(state["mesh"]["leader"]))
    assert daemon.verb("plan", "tiny", "--context", "512")["infeasible"] is None


def test_a_damaged_file_stops_the_start_and_is_kept(daemon: Daemon) -> None:
    daemon.verb("config", "memory-limit", "8GB")
    daemon.stop()
    path = daemon.home / "config.json"
    assert json.loads(path.read_text())["memory-limit"] == 8_000_000_000
    path.write_text('{"version": 1, "memory-limit": "eight"}')
    done = daemon.run("up", "--headless", "--api", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--no-mdns")
    assert done.returncode == 1
    assert "memory-limit has a value that it cannot have" in done.stderr
    assert "move it away" in done.stderr
    assert "eight" in path.read_text()
