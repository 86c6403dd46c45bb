"""A daemon as a process of its own: detached from the terminal, waited for, and quoted if it ends at its start."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import psutil

from peerinfer.api.record import DaemonRecord, read_record
from peerinfer.cli.show import ENDED_WITH
from peerinfer.cli.waiting import until
from peerinfer.errors import DaemonAbsent, HomeError

START_S = 60.0
"""Until a daemon's API answers, with cold imports of native libraries on a busy machine."""
KILL_S = 5.0
"""Between the request to end and the end by force."""
LOG_LINES = 15
"""Last lines of a daemon's log that are shown if it ends before its time without a sentence."""
OPTIONS_FILE = "started-with.json"
OPTIONS_MAX_BYTES = 65_536
LOG_MAX_BYTES = 4_000_000
"""A longer log is put aside at the next start: months of a quiet node, and opened at once by any editor."""
NODE_COMMAND = (sys.executable, "-P", "-m", "peerinfer", "up", "--headless")
_WINDOWS_FLAGS = 0x0800_0000 | 0x200
"""CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP. With DETACHED_PROCESS instead, Python's launcher and each engine would
open a console window of its own, since there is none to inherit."""


class DetachedDaemon:
    """One daemon that this process started, and which outlives it unless it is ended."""

    def __init__(self, name: str, home: Path, log: Path) -> None:
        """`name` is what sentences call it; what it writes is appended to `log`."""
        self._name = name
        self._home = home
        self._log = log
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, command: Sequence[str], options: Sequence[str]) -> None:
        """Starts it on its home, which exists: `command` takes the options of `peerinfer up`."""
        log = _open_log(self._log)
        try:
            self._log_start = os.fstat(log).st_size
            # A session of its own: Ctrl-C in the terminal, and the terminal's end, reach this process alone.
            self._process = subprocess.Popen(
                [*command, "--home", str(self._home), *options],
                cwd=self._home,  # it keeps no other folder, or the disk under it, from going
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=os.name == "posix",
                creationflags=_WINDOWS_FLAGS if os.name == "nt" else 0,
            )
        finally:
            os.close(log)

    async def until_up(self) -> DaemonRecord:
        """Waits until its API answers. Raises `DaemonAbsent` with its last words if it ends, or takes too long."""
        try:
            await until(self._is_up, START_S)
        except TimeoutError:
            raise DaemonAbsent(
                f"{self._name} did not start within {START_S:.0f} seconds.{self._last_lines()}"
            ) from None
        return read_record(self._home)

    def let_go(self) -> None:
        """Leaves it running on its own; its end is taken note of, so that it does not look alive for ever."""
        if self._process is not None:
            threading.Thread(target=self._process.wait, daemon=True).start()

    def terminate(self) -> None:
        """Asks it to end, as SIGTERM does; Windows ends it outright."""
        if self._process is not None:
            self._process.terminate()

    async def end(self, patience_s: float) -> None:
        """Waits for its end: after `patience_s` seconds it is terminated, then killed."""
        if self._process is None:
            return
        for wait_s, next_step in ((patience_s, self._process.terminate), (KILL_S, self._process.kill)):
            try:
                await until(self._has_ended, wait_s)
            except TimeoutError:
                next_step()
            else:
                return
        self._process.wait()

    async def _has_ended(self) -> bool:
        return not self.is_running

    async def _is_up(self) -> bool:
        if not self.is_running:
            raise DaemonAbsent(self._sentence() or f"{self._name} ended at its start.{self._last_lines()}")
        try:
            return self._is_own(read_record(self._home).pid)
        except DaemonAbsent:
            return False

    def _is_own(self, pid: int) -> bool:
        """Whether this is the started process; in a virtual environment on Windows that only launches the other."""
        started = 0 if self._process is None else self._process.pid
        with contextlib.suppress(psutil.Error):
            return pid == started or started in (parent.pid for parent in psutil.Process(pid).parents())
        return False

    def _said(self) -> list[str]:
        """The lines that this process, and none before it, has written."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", "replace").splitlines()
        return []

    def _sentence(self) -> str:
        """What it ended with, where it says so itself."""
        last = self._said()[-1:]
        return last[0].removeprefix(ENDED_WITH) if last and last[0].startswith(ENDED_WITH) else ""

    def _last_lines(self) -> str:
        return "".join(f"\n  {line}" for line in self._said()[-LOG_LINES:])


def remember(home: Path, options: Sequence[str]) -> None:
    """Notes what the daemon of `home` was started with; where that cannot be written, it is not there next time."""
    with contextlib.suppress(OSError):
        (home / OPTIONS_FILE).write_text(json.dumps(list(options)), "utf-8")


def started_with(home: Path) -> list[str]:
    """What the daemon of `home` was started with last; nothing where that is not known."""
    try:
        with (home / OPTIONS_FILE).open("rb") as file:
            noted = json.loads(file.read(OPTIONS_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return []
    options = cast(list[object], noted) if isinstance(noted, list) else []
    return [option for option in options if isinstance(option, str) and option.startswith("--")]


def _open_log(path: Path) -> int:
    """The log to append to, readable by its owner alone; one that has grown too long becomes `NAME.1`.

    Raises `HomeError`.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size > LOG_MAX_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    try:
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if os.name == "posix":
            os.fchmod(log, 0o600)  # it may be there already
    except OSError as error:
        raise HomeError(f"{path} cannot be written to: {error.strerror or error}.") from None
    return log
