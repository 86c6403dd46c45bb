"""What set-up says, and how it runs a long command: a line that moves, the output in a log, one sentence on failure."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

QUIET_LINE_S = 30.0
"""How often a line is printed where the line cannot move (a log, CI): often enough to be seen alive, no flood."""

POLL_S = 0.25
"""How often the command is looked at: the clock on the moving line must not seem to stutter."""

LOG_TAIL_BYTES = 65_536
"""How much of a log's end is searched for the cause of a failure: compilers bury it under many lines of notes."""

STEP = re.compile(r"^\s*\[(\d+/\d+)\]", re.MULTILINE)
"""Ninja's count of finished steps, as it stands in the log."""

CAUSES = (
    (
        r"No CMAKE_C(XX)?_COMPILER could be found|CMAKE_C(XX)?_COMPILER not set|is not a full path and was not found",
        "No C/C++ compiler was found. Install one: `apt install build-essential` on Debian and Ubuntu, "
        "`xcode-select --install` on macOS, the C++ workload of Visual Studio Build Tools on Windows.",
    ),
    (
        r"(Could not find|Problem with the) CMake|CMakeNotFound|CMake .*or higher is required",
        "CMake is missing or too old. Install it: `apt install cmake`, `brew install cmake` or `winget install cmake`.",
    ),
    (
        r"ensurepip is not available|No module named '?ensurepip",
        "On Debian and Ubuntu, Python's venv is a package of its own. Install it: `apt install python3-venv`.",
    ),
    (
        r"Killed signal|out of memory|Cannot allocate memory",
        "The machine ran out of memory. Close other programs first.",
    ),
    (r"No space left on device", "The disk is full. Make room for about 2 GB first."),
    (
        r"NewConnectionError|ConnectTimeout|name resolution|error sending request|dns error|No matching distribution",
        "The package index could not be reached, or lacks a package. Check the network and the proxy.",
    ),
)
"""What a log's end tells about the cause, most certain first."""


class SetupFailed(Exception):
    """Set-up cannot go on; `str(error)` says what happened and what to do."""


def say(line: str) -> None:
    """Tells the person `line`, on stderr: stdout belongs to the program that is set up for."""
    print(line, file=sys.stderr, flush=True)


def run_logged(title: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
    """Runs `command` with its output appended to `log`, and shows `title` with the time elapsed meanwhile.

    Raises SetupFailed, naming the log and the likely cause, when it does not end with status 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"$ {' '.join(command)}\n".encode())
        output.flush()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env
            )
        except OSError as error:
            raise SetupFailed(f"{title}: `{command[0]}` could not be started ({error}).") from error
        try:
            _show(title, process, log)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode != 0:
        fail(title, log)


def fail(title: str, log: Path) -> NoReturn:
    """Raises SetupFailed for the step `title`, with what `log` tells about the cause."""
    tail = _tail(log)
    cause = next((advice for pattern, advice in CAUSES if re.search(pattern, tail)), "")
    raise SetupFailed(f"{title}: this failed. {cause} The log is {log}".replace("  ", " "))


def _show(title: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Keeps the person informed until `process` ends."""
    started = time.monotonic()
    moving = sys.stderr.isatty()
    next_line_s = QUIET_LINE_S
    if not moving:
        say(f"{title} …")
    while process.poll() is None:
        elapsed_s = time.monotonic() - started
        if moving:
            print(_over(f"{title} {_clock(elapsed_s)}{_step(log)}"), end="", file=sys.stderr, flush=True)
        elif elapsed_s >= next_line_s:
            say(f"{title} {_clock(elapsed_s)}{_step(log)}")
            next_line_s += QUIET_LINE_S
        time.sleep(POLL_S)
    ended = f"{title} {_clock(time.monotonic() - started)}"
    say(_over(ended) if moving else ended)


def _over(line: str) -> str:
    """`line`, cut and padded so that it covers the line that stands on the terminal."""
    columns = shutil.get_terminal_size().columns - 1
    return f"\r{line[:columns].ljust(columns)}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _step(log: Path) -> str:
    """The compiler's latest count, such as ` [17/212]`, or nothing."""
    counts = STEP.findall(_tail(log))
    return f" [{counts[-1]}]" if counts else ""


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")
