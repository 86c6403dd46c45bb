"""`invite --confirm` between two real nodes: a joiner that is stopped, one that is refused, and one that comes in."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.daemons import PEERINFER, VERB_S, Daemon, strangers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="a test cannot send Ctrl-C to one process there"),
]


@pytest.fixture
def nodes(tmp_path: Path) -> Generator[list[Daemon]]:
    with strangers(tmp_path, {"desk": (), "lap": ()}) as made:
        yield made


def begin(daemon: Daemon, *words: str) -> subprocess.Popen[bytes]:
    """A verb that waits for a person."""
    pipe = subprocess.PIPE
    command = [*PEERINFER, words[0], "--home", str(daemon.home), *words[1:]]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)


def read_until(stream: object, end: bytes) -> str:
    """What comes up to `end`, and not a byte more."""
    seen = b""
    while not seen.endswith(end):
        byte = stream.read(1)  # pyright: ignore[reportAttributeAccessIssue]
        assert byte, seen
        seen += byte
    return seen.decode()


def test_a_person_decides_who_comes_in(nodes: list[Daemon]) -> None:
    desk, lap = nodes
    with begin(desk, "invite", "--confirm") as invite:
        shown = read_until(invite.stdout, b"'\n")
        code = re.findall(r"peerinfer join (\d{3}-\d{3})", shown)[0]
        at = re.findall(r"at=([^&]+)&", shown)[0].rpartition(":")[2]
        join = ("join", code, "--host", f"127.0.0.1:{at}", "--yes")
        with begin(lap, *join) as stopped:
            assert "lap (" in read_until(invite.stderr, b"[y/N] ")
            read_until(stopped.stderr, b"Waiting until somebody there says yes\n")
            assert "moment" in lap.verb("invite", code=1)
            stopped.send_signal(signal.SIGINT)
            assert stopped.communicate(timeout=VERB_S)[1].endswith(b"Stopped.\n")
        read_until(invite.stderr, b"lap waits no longer.\n")
        assert invite.stdin is not None
        for answer in (b"what?\n", b"y\n"):
            with begin(lap, *join) as joining:
                read_until(invite.stderr, b"[y/N] ")
                invite.stdin.write(answer)
                invite.stdin.flush()
                out, err = joining.communicate(timeout=VERB_S)
            accepted = answer == b"y\n"
            assert (joining.returncode, b"in the mesh of desk" in out) == ((0, True) if accepted else (1, False)), err
            assert (b"owner did not let this one in" in err) != accepted
        joined, _ = invite.communicate(timeout=VERB_S)
    assert invite.returncode == 0
    assert b"has joined the mesh" in joined
    desk.until("both are alive", lambda state: len(state["members"]) == 2)
