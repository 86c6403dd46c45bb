"""Ctrl-C, as a terminal sends it: the answer is given up everywhere, and no traceback is seen."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.api.fakes import Script
from tests.cli.conftest import Daemon


@pytest.mark.skipif(sys.platform == "win32", reason="a test cannot send Ctrl-C to one process there")
def test_ctrl_c_stops_an_answer(daemon: Daemon) -> None:
    daemon.chat.script = Script(pieces=("begin",), hang=True)
    command = [sys.executable, "-m", "peerinfer", "chat", "--home", str(daemon.home), "", "hi"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as chat:
        assert chat.stdout is not None
        assert chat.stdout.read(5) == b"begin"
        chat.send_signal(signal.SIGINT)
        out, err = chat.communicate(timeout=60)
    assert (chat.returncode, out, err) == (1, b"\n", b"Stopped.\n")
    deadline = time.monotonic() + 10
    while not daemon.chat.answers[0].cancelled.is_set() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert daemon.chat.answers[0].cancelled.is_set()
