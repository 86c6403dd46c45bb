"""`config` as a person types it, with a daemon and without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peerinfer.cli.main import main
from peerinfer.node.home import Home
from peerinfer.node.policy import PolicyDesk
from tests.cli.conftest import Daemon

Capture = pytest.CaptureFixture[str]


def test_without_a_daemon_the_file_is_written(tmp_path: Path, capsys: Capture) -> None:
    home = tmp_path / "home"
    here = ["--home", str(home)]
    assert main(["config", *here]) == 0
    assert "memory-limit      none" in capsys.readouterr().out
    assert not home.exists()
    assert main(["config", "memory-limit", "8GB", *here]) == 0
    assert capsys.readouterr().out == "8GB\n"
    assert main(["config", "memory-limit", "--json", *here]) == 0
    assert json.loads(capsys.readouterr().out) == {"memory-limit": 8_000_000_000}
    assert PolicyDesk(home).owner().memory_limit_bytes == 8_000_000_000


def test_what_cannot_be_set_is_a_sentence(tmp_path: Path, capsys: Capture) -> None:
    for words, sentence in (
        (("memory-limit", "much"), "memory-limit is a number and MB, GB or TB"),
        (("colour", "red"), "There is no setting colour."),
        (("colour",), "There is no setting colour."),
    ):
        assert main(["config", *words, "--home", str(tmp_path)]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert sentence in captured.err
    assert not (tmp_path / "config.json").exists()


def test_a_damaged_file_is_kept(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "config.json").write_text("{")
    for words in ((), ("exclude", "yes")):
        assert main(["config", *words, "--home", str(tmp_path)]) == 1
        assert "It was left as it is: correct it, or move it away" in capsys.readouterr().err
    assert (tmp_path / "config.json").read_text() == "{"


def test_a_home_that_a_starting_daemon_holds_is_left_alone(tmp_path: Path, capsys: Capture) -> None:
    with Home.open(tmp_path):
        assert main(["config", "exclude", "yes", "--home", str(tmp_path)]) == 1
    assert "already runs on" in capsys.readouterr().err
    assert not (tmp_path / "config.json").exists()


def test_a_daemon_does_it_itself(daemon: Daemon, capsys: Capture) -> None:
    assert daemon.run("config", "never-on-battery", "yes") == 0
    assert capsys.readouterr().out == "yes\n"
    assert daemon.node.policy.owner.never_on_battery
    assert daemon.run("config", "engines", "llama.cpp", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"engines": ["llama.cpp"]}
    assert daemon.run("config", "engines", "other") == 1
    assert "engines is all, or some of" in capsys.readouterr().err
    assert daemon.run("config") == 0
    assert "never-on-battery  yes" in capsys.readouterr().out
