"""`up` and `tui` over a process that acts as a daemon, and one that acts as the terminal face."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from peerinfer.api.record import DaemonRecord, read_record, write_record
from peerinfer.cli import background, face, node
from peerinfer.cli.background import DetachedDaemon
from peerinfer.cli.main import main
from peerinfer.errors import DaemonAbsent, HomeError
from peerinfer.node.home import prepare_home

Capture = pytest.CaptureFixture[str]
FAKE = (sys.executable, "-m", "tests.cli.fake_daemon")
LAUNCHER = (sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])", *FAKE[1:])
"""As Python in a virtual environment on Windows: one process that only runs the other."""
NAMED = ("--name", "desk", "--api", "127.0.0.1:0", "--listen", "127.0.0.1:0")
FACE = """\
import pathlib, sys
pathlib.Path(sys.argv[2], "face").write_text(" ".join(sys.argv[1:]))
print("shown", flush=True)
sys.exit(sys.stdin.readline() and 7)
"""
unix = pytest.mark.skipif(sys.platform == "win32", reason="signals and file modes are Unix's")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where daemons are fakes, which are ended with the test."""
    monkeypatch.setattr(background, "NODE_COMMAND", FAKE)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    home = tmp_path / "home"
    yield home
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(home) in process.cmdline():
                process.kill()
                process.wait(30)


def up(home: Path, *options: str) -> int:
    return main(["up", "--home", str(home), *options])


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person is here, and the face leaves at once."""
    monkeypatch.setattr(node, "has_terminal", lambda: True)
    monkeypatch.setattr(face, "FACE_COMMAND", (sys.executable, "-c", FACE.replace("sys.stdin.readline()", "True")))


def test_a_daemon_in_the_background_runs_on_and_is_told_of(home: Path, capsys: Capture) -> None:
    assert up(home, "--background", *NAMED, "--shards-limit", "2TB", "--no-mdns") == 0
    record = read_record(home)
    said = capsys.readouterr().out
    assert said.startswith(f"desk runs in the background: its API answers at http://{record.api}, ")
    assert f"its log is {home / 'daemon.log'}; " in said
    assert f'`peerinfer down --home "{home}"` stops it.' in said
    daemon = psutil.Process(record.pid)
    assert {"--no-mdns", "--shards-limit=2000000000000", "--name=desk"} <= set(daemon.cmdline())
    assert daemon.cwd() == str(home)
    if os.name == "posix":
        assert os.getsid(record.pid) == record.pid
        assert stat.S_IMODE((home / "daemon.log").stat().st_mode) == 0o600
    assert main(["down", "--home", str(home)]) == 0
    assert not (home / "daemon.json").exists()


def test_where_one_runs_already_nothing_is_started(home: Path, capsys: Capture) -> None:
    assert up(home, "--background", *NAMED) == 0
    pid = read_record(home).pid
    capsys.readouterr()
    assert up(home, "--background", "--name", "desk") == 0
    told = capsys.readouterr()
    assert told.out.startswith("desk (")
    assert "runs already" in told.out
    assert told.err == ""
    assert up(home, "--background", "--name", "lap", "--threads", "2") == 0
    assert "takes --name and --threads at its start only" in capsys.readouterr().err
    assert read_record(home).pid == pid


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("sentence", "peerinfer: The port is taken: choose another one.\n"),
        ("start", "peerinfer: The node ended at its start.\n  The dog ate the home folder.\n"),
    ],
)
def test_what_ends_a_start_is_told_in_the_daemons_words(
    broken: str, sentence: str, home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (home / "daemon.log").write_text("peerinfer: What ended it before.\n")
    monkeypatch.setenv("FAKE_DAEMON", broken)
    assert up(home, "--background", *NAMED, "--name", "demo-2") == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", sentence)
    assert (home / "daemon.log").read_text().startswith("peerinfer: What ended it before.\n")


def test_a_log_that_has_grown_long_is_put_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LOG_MAX_BYTES", 100)
    home.mkdir()
    for start, kept in ((b"a" * 100, False), (b"b" * 101, True)):
        (home / "daemon.log").write_bytes(start)
        assert up(home, "--background", *NAMED) == 0
        assert main(["down", "--home", str(home)]) == 0
        assert (home / "daemon.log").read_bytes().startswith(start) != kept
        assert (home / "daemon.log.1").exists() == kept
    assert (home / "daemon.log.1").read_bytes() == start


def test_a_log_that_cannot_be_written_is_a_sentence(home: Path, capsys: Capture) -> None:
    (home / "daemon.log").mkdir(parents=True)
    assert up(home, "--background", *NAMED) == 1
    assert "daemon.log cannot be written to" in capsys.readouterr().err
    with pytest.raises(HomeError):
        DetachedDaemon("it", home, home / "daemon.log").start(FAKE, NAMED)


def test_as_before_takes_what_it_was_started_with_last(home: Path) -> None:
    assert up(home, "--background", *NAMED, "--no-mdns") == 0
    assert main(["down", "--home", str(home)]) == 0
    assert up(home, "--background", "--as-before") == 0
    assert {"--name=desk", "--no-mdns"} <= set(psutil.Process(read_record(home).pid).cmdline())
    assert main(["down", "--home", str(home)]) == 0
    assert up(home, "--background", "--as-before", *NAMED) == 0
    assert "--no-mdns" not in psutil.Process(read_record(home).pid).cmdline()


@pytest.mark.parametrize("noted", ["", "nonsense", "{}", '[1, null, "; rm"]', "[" * 100_000])
def test_a_note_of_options_that_is_none_is_passed_over(tmp_path: Path, noted: str) -> None:
    (tmp_path / "started-with.json").write_text(noted)
    assert background.started_with(tmp_path) == []


async def test_another_daemons_record_is_not_taken_for_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "START_S", 0.3)
    prepare_home(home)
    write_record(home, DaemonRecord(os.getpid(), "127.0.0.1:1", "", ""))
    daemon = DetachedDaemon("desk", home, home / "log")
    daemon.start((sys.executable, "-c", "import threading; threading.Event().wait()"), ())
    with pytest.raises(DaemonAbsent, match="did not start"):
        await daemon.until_up()
    await daemon.end(0.0)
    assert not daemon.is_running


async def test_a_daemon_behind_a_launcher_is_recognised(home: Path) -> None:
    prepare_home(home)
    daemon = DetachedDaemon("desk", home, home / "log")
    daemon.start(LAUNCHER, NAMED)
    record = await daemon.until_up()
    assert psutil.Process(record.pid).ppid() != os.getpid()
    assert daemon.is_running
    psutil.Process(record.pid).kill()
    await daemon.end(30.0)


def test_in_a_terminal_the_face_comes_over_a_daemon_that_stays(home: Path, terminal: None, capsys: Capture) -> None:
    assert up(home, *NAMED) == 7
    pid = read_record(home).pid
    given = "--name=desk --api=127.0.0.1:0 --listen=127.0.0.1:0"
    assert (home / "face").read_text() == f"--home {home} -- {given}"
    assert "desk runs in the background" in capsys.readouterr().err
    assert up(home, *NAMED, "--no-mdns") == 7
    told = capsys.readouterr().err
    assert "--no-mdns at its start only" in told
    assert "desk (" in told
    assert (read_record(home).pid, psutil.pid_exists(pid)) == (pid, True)


def test_a_start_that_fails_shows_no_face(
    home: Path, terminal: None, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DAEMON", "sentence")
    assert up(home, *NAMED) == 1
    assert capsys.readouterr().err == "peerinfer: The port is taken: choose another one.\n"
    assert not (home / "face").exists()


@pytest.mark.parametrize("options", [(), ("--headless",)])
def test_without_a_terminal_it_stays_in_the_foreground(
    options: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stayed: list[str] = []
    monkeypatch.setattr(node, "has_terminal", lambda: bool(options))
    monkeypatch.setattr(node, "_in_foreground", lambda args: stayed.append(args.name) or 0)
    assert up(home, *options, "--name", "desk") == 0
    assert stayed == ["desk"]


@pytest.mark.parametrize(("typed", "shown", "has"), [(True, True, True), (True, False, False), (False, True, False)])
def test_a_terminal_is_at_both_ends(typed: bool, shown: bool, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: typed)
    monkeypatch.setattr("sys.stdout.isatty", lambda: shown)
    assert face.has_terminal() == has


def run_tui(home: Path) -> subprocess.Popen[bytes]:
    """`peerinfer tui` in a process of its own, once its face is shown."""
    home.mkdir()
    said = f"import sys; from peerinfer.cli import face, main; face.FACE_COMMAND = (sys.executable, '-c', {FACE!r}); "
    command = [sys.executable, "-c", said + "sys.exit(main.main(sys.argv[1:]))", "tui", "--home", str(home)]
    shown = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert shown.stdout is not None
    assert shown.stdout.read(5) == b"shown"
    return shown


def test_tui_runs_the_face_alone_and_ends_as_it_does(home: Path) -> None:
    with run_tui(home) as shown:
        shown.communicate(b"\n", timeout=60)
    assert shown.returncode == 7
    assert [path.name for path in home.iterdir()] == ["face"]


@unix
def test_ctrl_c_is_the_faces_to_answer_and_sigterm_ends_both(tmp_path: Path) -> None:
    with run_tui(tmp_path / "one") as shown:
        shown.send_signal(2)
        shown.communicate(b"\n", timeout=60)
    assert shown.returncode == 7
    with run_tui(tmp_path / "two") as shown:
        shown.send_signal(15)
        shown.wait(60)  # with its input open, the end of which would end it too
    assert shown.returncode == 128 + 15
