"""The home folder: private, held once, with a record that tells the truth."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from peerinfer.api.record import read_record, read_token
from peerinfer.errors import ConfigInvalid, DaemonAbsent, HomeInUse, HomeNotOurs
from peerinfer.node.home import Home

unix = pytest.mark.skipif(sys.platform == "win32", reason="file modes and owners are Unix's")


def test_open_makes_a_home_with_a_token(tmp_path: Path) -> None:
    with Home.open(tmp_path / "a" / "b") as home:
        assert len(home.token) == 64
        assert read_token(home.path) == home.token
        with pytest.raises(DaemonAbsent):
            read_record(home.path)
        home.announce("127.0.0.1:8642", "aa" * 16, "0.1.0")
        record = read_record(home.path)
        assert (record.pid, record.api, record.node) == (os.getpid(), "127.0.0.1:8642", "aa" * 16)
    home.close()
    with pytest.raises(DaemonAbsent):
        read_record(home.path)
    with Home.open(home.path) as again:
        assert again.token == home.token


@unix
def test_modes_are_private(tmp_path: Path) -> None:
    path = tmp_path / "home"
    path.mkdir(mode=0o755)
    (path / "token").write_text("7" * 64)
    (path / "token").chmod(0o644)
    with Home.open(path) as home:
        home.announce("127.0.0.1:1", "", "")
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        for name in ("token", "lock", "daemon.json"):
            assert stat.S_IMODE((path / name).stat().st_mode) == 0o600, name


def test_a_home_is_held_once_and_told_by_whom(tmp_path: Path) -> None:
    with Home.open(tmp_path) as home:
        home.announce("127.0.0.1:8642", "", "")
        with pytest.raises(HomeInUse, match=rf"pid {os.getpid()}\b"):
            Home.open(tmp_path)
        assert read_record(tmp_path).pid == os.getpid()
    Home.open(tmp_path).close()


def test_a_crash_frees_the_home_and_its_record_is_not_believed(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from peerinfer.node.home import Home;"
        "home = Home.open(Path(sys.argv[1])); home.announce('127.0.0.1:1', '', ''); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
    assert (tmp_path / "daemon.json").exists()
    with pytest.raises(DaemonAbsent):
        read_record(tmp_path)
    with Home.open(tmp_path):
        assert not (tmp_path / "daemon.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}'])
def test_a_torn_record_means_no_daemon(tmp_path: Path, text: str) -> None:
    (tmp_path / "daemon.json").write_text(text)
    with pytest.raises(DaemonAbsent):
        read_record(tmp_path)


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigInvalid):
            Home.open(path)


@unix
def test_a_home_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = stat.S_IMODE(tmp_path.stat().st_mode)
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(HomeNotOurs, match="another user"):
        Home.open(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert stat.S_IMODE(tmp_path.stat().st_mode) == mode
