"""What a running daemon leaves in its home for local programs: `daemon.json` (pid, API address) and `token`."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil

from peerinfer.errors import DaemonAbsent, HomeNotOurs

RECORD_FILE = "daemon.json"
TOKEN_FILE = "token"  # noqa: S105  (a file name)
TOKEN_BYTES = 32
"""256 bits: beyond guessing."""


@dataclass(frozen=True, slots=True)
class DaemonRecord:
    """Who runs on a home, and where its API answers."""

    pid: int
    api: str
    """`host:port` of the API, the port that was really taken."""
    node: str
    """Node id."""
    version: str


def write_record(home: Path, record: DaemonRecord) -> None:
    """Puts `record` in its place at once, so that no reader ever sees half of it."""
    fields = {"pid": record.pid, "api": record.api, "node": record.node, "version": record.version}
    draft = home / f"{RECORD_FILE}.{os.getpid()}"
    _write_private(draft, json.dumps(fields))
    draft.replace(home / RECORD_FILE)


def remove_record(home: Path) -> None:
    """Takes the record away; none there is fine."""
    with contextlib.suppress(OSError):
        (home / RECORD_FILE).unlink(missing_ok=True)


def read_record(home: Path) -> DaemonRecord:
    """The record of the daemon that runs on `home`. Raises `DaemonAbsent`, also for one left by a crash."""
    absent = DaemonAbsent(f"No peerinfer daemon runs on {home}. Start one with `peerinfer up`.")
    try:
        fields = cast(dict[str, Any], json.loads((home / RECORD_FILE).read_text("utf-8")))
        record = DaemonRecord(int(fields["pid"]), str(fields["api"]), str(fields["node"]), str(fields["version"]))
    except PermissionError:
        raise HomeNotOurs(f"{home} belongs to somebody else: choose another folder with --home.") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise absent from None
    # The port in a dead daemon's record may be another program's by now: it must not be sent the token.
    if not psutil.pid_exists(record.pid):
        raise absent
    return record


def read_token(home: Path) -> str:
    """The bearer token of this home. Raises `DaemonAbsent` if none was ever made."""
    try:
        return (home / TOKEN_FILE).read_text("ascii").strip()
    except (OSError, ValueError):
        raise DaemonAbsent(f"{home / TOKEN_FILE} cannot be read: start the daemon once with `peerinfer up`.") from None


def ensure_token(home: Path) -> str:
    """The bearer token of this home, made at first use and readable by its owner alone."""
    path = home / TOKEN_FILE
    with contextlib.suppress(OSError, ValueError):
        token = path.read_text("ascii").strip()
        if len(token) >= 2 * TOKEN_BYTES:
            path.chmod(0o600)
            return token
    token = secrets.token_hex(TOKEN_BYTES)
    draft = home / f"{TOKEN_FILE}.{os.getpid()}"
    _write_private(draft, token)
    draft.replace(path)
    return token


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
