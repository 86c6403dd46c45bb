"""The peer book: where each member was reached lately, kept in the home so that a restart needs no discovery."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, cast

from peerinfer.identity.files import write_private
from peerinfer.net.address import is_ip_address
from peerinfer.net.link_messages import PEERS_MAX, check_node_id

REMEMBERED_MAX: Final = 4
"""Addresses of one member, the latest first: home, office, cable, and one to spare."""
FILE_MAX_BYTES: Final = 256 * 1024
"""Far above what `PEERS_MAX` members need."""
VERSION: Final = 1

log = logging.getLogger(__name__)


class PeerBook:
    """Addresses of members by node id, the latest first, in the JSON file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._saved: dict[str, tuple[str, ...]] = {}

    def load(self) -> dict[str, tuple[str, ...]]:
        """Reads the file and gives its content; a missing or damaged one counts as empty."""
        try:
            with self._path.open("rb") as file:
                self._addresses = _parse(file.read(FILE_MAX_BYTES + 1))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            log.warning("The remembered addresses in %s cannot be read (%s); they are learned anew.", self._path, error)
        self._saved = dict(self._addresses)
        return dict(self._addresses)

    def remember(self, node: str, address: str) -> None:
        """Puts the address at which `node` was reached first."""
        if not is_ip_address(address):
            return
        others = (other for other in self._addresses.pop(node, ()) if other != address)
        self._addresses[node] = (address, *others)[:REMEMBERED_MAX]
        if len(self._addresses) > PEERS_MAX:
            del self._addresses[next(iter(self._addresses))]

    def forget(self, nodes: Collection[str]) -> None:
        """Removes members from the book."""
        for node in nodes:
            self._addresses.pop(node, None)

    @property
    def changed(self) -> bool:
        """Whether there is something to save."""
        return self._addresses != self._saved

    def save(self) -> None:
        """Writes the file; blocks for the disk. A failure is a warning: nothing depends on the book."""
        addresses = dict(self._addresses)
        try:
            write_private(self._path, json.dumps({"version": VERSION, "peers": addresses}, indent=1).encode())
        except OSError as error:
            log.warning("The addresses of peers could not be saved in %s (%s).", self._path, error)
        self._saved = addresses


def _parse(data: bytes) -> dict[str, tuple[str, ...]]:
    """Raises `ValueError` for anything but a peer book."""
    if len(data) > FILE_MAX_BYTES:
        raise ValueError("it is too long")
    content: Any = json.loads(data)
    if not isinstance(content, dict) or cast(dict[str, Any], content).get("version") != VERSION:
        raise ValueError("it is of another version")
    peers: Any = cast(dict[str, Any], content).get("peers")
    if not isinstance(peers, dict) or len(cast(dict[str, Any], peers)) > PEERS_MAX:
        raise ValueError("it has no list of peers, or too many")
    book: dict[str, tuple[str, ...]] = {}
    for node, listed in cast(dict[str, Any], peers).items():
        check_node_id(node)
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in cast(list[Any], listed)):
            raise ValueError("an entry is not a list of addresses")
        addresses = cast(list[str], listed)
        book[node] = tuple(filter(is_ip_address, addresses[:REMEMBERED_MAX]))
    return book
