"""How one node is set up: the values that the command line and the environment give, checked once."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from peerinfer.errors import ConfigInvalid
from peerinfer.names import clean_name

API_PORT = 8642
PEER_PORT = 8643
HOME_VARIABLE = "PEERINFER_HOME"
API_HOSTS_VARIABLE = "PEERINFER_API_HOSTS"


@dataclass(frozen=True, slots=True)
class Listen:
    """An address to listen on. Port 0 takes any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Listen:
        """Reads `127.0.0.1:8642`, `[::1]:8642` or `localhost:0`. Raises `ConfigInvalid`."""
        host, colon, digits = text.strip().rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        if not colon or not host or (":" in host) != bracketed or any(c.isspace() or c in "/@?#" for c in host):
            raise ConfigInvalid(f"{text!r} is not an address to listen on: write HOST:PORT, such as 127.0.0.1:8642.")
        if not (digits.isascii() and digits.isdigit() and int(digits) <= 65_535):
            raise ConfigInvalid(f"{text!r} has no usable port: write HOST:PORT with a port from 0 to 65535.")
        return cls(host, int(digits))


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything that one daemon is told at its start."""

    home: Path
    """Folder of this node's identity, models and state."""
    name: str
    """What people call this node; at most `names.NAME_MAX` characters."""
    api: Listen = Listen("127.0.0.1", API_PORT)
    """Where the local HTTP API listens."""
    listen: Listen = Listen("0.0.0.0", PEER_PORT)  # noqa: S104  (peers are other machines; every link is mutual TLS)
    """Where peers connect."""
    peers: tuple[str, ...] = ()
    """Addresses (`HOST:PORT`) of peers to try besides those that are remembered or heard by mDNS."""
    mdns: bool = True
    """Whether to look for peers by mDNS, and to be found by it."""
    headless: bool = True
    """Whether the daemon stays in the foreground and logs, without a terminal interface."""
    model: str = ""
    """Model to load when the node is up; empty loads none."""
    shards_limit_bytes: int = 0
    """Disk space that shard files may take together; 0 takes what is needed and leaves the system its reserve."""
    threads: int = 0
    """Threads that each stage computes with; 0 takes one for each physical core."""
    api_hosts: tuple[str, ...] = ()
    """Further `Host` headers (`name:port`) that the API answers to, for a reverse proxy or a bind to all addresses."""


def default_home() -> Path:
    """The home folder: `$PEERINFER_HOME`, or the place this system keeps the data of its programs in."""
    chosen = os.environ.get(HOME_VARIABLE, "")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("peerinfer", appauthor=False))


def default_name() -> str:
    """This machine's host name without its domain."""
    return clean_name(socket.gethostname().partition(".")[0]) or "node"


def api_hosts_from_environment() -> tuple[str, ...]:
    """The `Host` headers named in `$PEERINFER_API_HOSTS`, separated by commas."""
    return tuple(host.strip().lower() for host in os.environ.get(API_HOSTS_VARIABLE, "").split(",") if host.strip())
