"""`tui`: the terminal face, a process of its own in this terminal."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from peerinfer.cli.verbs import Verbs, add_verb, home_of

FACE_COMMAND = (sys.executable, "-P", "-m", "tui")
KILLED_BY = 128
"""What shells add to the number of the signal that ended a program."""


def add(verbs: Verbs) -> None:
    """Declares the verb of this file."""
    add_verb(verbs, "tui", "show the node in this terminal, live; leaving asks whether the node keeps running", run_tui)


def run_tui(args: argparse.Namespace) -> int:
    """Shows the node that runs on the home."""
    return show_face(home_of(args))


def has_terminal() -> bool:
    """Whether a person sits at both ends: what is typed comes from a terminal, and what is shown goes to one."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))  # pyright: ignore[reportUnnecessaryComparison]  # None under pythonw


def show_face(home: Path, options: Sequence[str] = ()) -> int:
    """Runs the face until its person leaves it; returns its exit code. It starts a daemon with `options` of `up`."""
    face: subprocess.Popen[bytes] | None = None
    is_over = False

    def end(_signal: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True  # it may come before the face is known here
        if face is not None:
            face.terminate()

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, _leave_it),
        signal.SIGTERM: signal.signal(signal.SIGTERM, end),
    }
    try:
        face = subprocess.Popen([*FACE_COMMAND, "--home", str(home), *(["--", *options] if options else [])])
        if is_over:
            face.terminate()
        code = face.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else KILLED_BY - code


def _leave_it(_signal: int, _frame: FrameType | None) -> None:
    """Ctrl-C goes to both processes, and it is the face that a person speaks to. (SIG_IGN would be inherited by it.)"""
