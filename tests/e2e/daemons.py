"""Daemons for end-to-end tests: started, paired and asked by the same verbs that a person types."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

PEERINFER = (sys.executable, "-P", "-m", "peerinfer")
START_S = 60.0
VERB_S = 120.0


class Daemon:
    """One daemon on loopback with a home of its own."""

    def __init__(self, folder: Path, name: str, models: Sequence[Path] = ()) -> None:
        self.name = name
        self.home = folder / name
        self.port = 0
        """Where it takes links; kept when it starts again, as it is at a person's home."""
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        (self.home / "models").mkdir(parents=True)
        self.home.chmod(0o700)
        for model in models:
            shutil.copy(model, self.home / "models")

    @property
    def api(self) -> str:
        """Base address of its HTTP API."""
        return "http://" + json.loads((self.home / "daemon.json").read_text())["api"]

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str) -> None:
        """Begins to start; `wait` waits."""
        log = (self.home / "log").open("ab")
        self._log_start = log.tell()
        address = ("--api", "127.0.0.1:0", "--listen", f"127.0.0.1:{self.port}", "--threads", "1", "--no-mdns")
        command = [*PEERINFER, "up", "--headless", "--home", str(self.home), "--name", self.name, *address, *options]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()

    def wait(self) -> None:
        """Until its API answers, and its log says so."""
        assert self._process is not None
        deadline = time.monotonic() + START_S
        log = self.home / "log"
        while not ((self.home / "daemon.json").exists() and (ports := self._ports())):
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        self.port = int(ports[-1])

    def _ports(self) -> list[str]:
        """Those that it has listened on since `start`, as its log says."""
        said = (self.home / "log").read_bytes()[self._log_start :].decode()
        return re.findall(r"peers on port (\d+)", said)

    def stop(self) -> None:
        """Ends it, gently at first."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """Ends it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        (self.home / "daemon.json").unlink(missing_ok=True)
        self._process = None

    def verb(self, *words: str, code: int = 0) -> Any:
        """Runs a verb with `--json` and gives its object; with another exit `code`, its sentence on stderr."""
        if code:
            done = self.run(*words)
            assert done.returncode == code, done.stdout + done.stderr
            assert "Traceback" not in done.stderr
            return done.stderr.strip()
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs a verb as it is."""
        command = [*PEERINFER, words[0], "--home", str(self.home), *words[1:]]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=VERB_S, stdin=subprocess.DEVNULL
        )

    def until(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Asks for the state until `holds(state)`; gives that state."""
        deadline = time.monotonic() + START_S
        while True:
            state = self.verb("status")
            if holds(state):
                return state
            assert time.monotonic() < deadline, f"{self.name} never saw that {what}: {json.dumps(state)[:3000]}"
            time.sleep(0.2)


def pair(host: Daemon, guest: Daemon) -> None:
    """Invites and joins by the verbs."""
    window = host.verb("invite")
    done = guest.run("join", window["code"], "--host", f"127.0.0.1:{window['port']}", "--yes")
    assert done.returncode == 0, done.stderr
    host.until("the guest is alive", lambda state: _alive(state) >= 2)


@contextlib.contextmanager
def strangers(folder: Path, models: Mapping[str, Sequence[Path]]) -> Generator[list[Daemon]]:
    """Started daemons by their names, each in a mesh of its own; they end with the block."""
    made = [Daemon(folder, name, files) for name, files in models.items()]
    try:
        for daemon in made:
            daemon.start()
        for daemon in made:
            daemon.wait()
        yield made
    finally:
        for daemon in made:
            daemon.stop()


def house(folder: Path, names: Sequence[str], models: Sequence[Path]) -> list[Daemon]:
    """Started and paired daemons that all see each other."""
    daemons = [Daemon(folder, name, models) for name in names]
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        daemon.wait()
    for guest in daemons[1:]:
        pair(daemons[0], guest)
    for daemon in daemons:
        daemon.until("all are alive", lambda state: _alive(state) == len(daemons) and state["mesh"]["leader"])
    return daemons


def _alive(state: dict[str, Any]) -> int:
    return sum(member["state"] == "alive" for member in state["members"])
