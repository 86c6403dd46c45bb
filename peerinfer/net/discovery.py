"""Discovery by mDNS: announces this node and finds others nearby. A hint where to dial, never identity.

The service `_peerinfer._tcp.local.` carries random names and four TXT values: `v` the version of this record, `h` a
rotating hint by which members know their mesh, `p` the port of an open pairing window or nothing, and `n` the number
of changes so far, since zeroconf does not tell of a record that returns to a value which its cache still holds.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from peerinfer.net.address import join_address
from peerinfer.net.interfaces import Interface, machine_interfaces, peer_addresses

SERVICE: Final = "_peerinfer._tcp.local."
RECORD_VERSION: Final = "1"
HINT_BYTES: Final = 8
POLL_S: Final = 5.0
"""Between looks at the interfaces: nothing tells of a change, and a look costs about a millisecond."""
RECORD_TTL_S: Final = 120
"""A node that dies without a goodbye is forgotten after this."""
RESOLVE_TIMEOUT_MS: Final = 3000
SEEN_MAX: Final = 256
"""Services remembered, and addresses that discovery may offer for dialling."""
RESOLVING_MAX: Final = 32
"""Look-ups at once; a service beyond them is looked up when it announces itself again."""
ADDRESSES_MAX: Final = 8
"""Addresses taken of one service."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """A node that announced itself."""

    addresses: tuple[str, ...]
    """Where it takes links, as `ip:port`."""
    hint: bytes
    pairing_port: int | None
    """Where its pairing window listens; None if none is open."""


@dataclass(frozen=True, slots=True)
class Nearby:
    """A node of another mesh nearby: an address, never a name."""

    address: str
    pairing: bool
    pairing_port: int | None
    hint: str


class Discovery:
    """Announces a node while it runs, and tells `found` each address of a node that shows one of our `hints`.

    `hints` gives the hint to show first, then the others that members may show at this time. If mDNS does not work
    here, a warning says so, and it is tried again at every look at the interfaces.
    """

    def __init__(
        self,
        listen_host: str,
        port: int,
        hints: Callable[[], Sequence[bytes]],
        found: Callable[[str], None],
        *,
        include_virtual: bool = False,
        interfaces: Callable[[], Sequence[Interface]] = machine_interfaces,
    ) -> None:
        self._listen_host = listen_host
        self._port = port
        self._hints = hints
        self._found = found
        self._include_virtual = include_virtual
        self._interfaces = interfaces
        self._token = ""
        """This node's random name, a new one for each binding: caches may hold the goodbye of the former."""
        self._pairing_port: int | None = None
        self._addresses: tuple[str, ...] = ()
        self._shown: dict[str, str] = {}
        self._changes = 0
        self._zeroconf: Any = None  # an AsyncZeroconf, whose methods are only partly typed
        self._browser: AsyncServiceBrowser | None = None
        self._announcing: asyncio.Future[None] | None = None
        self._seen: dict[str, Seen] = {}
        self._resolving: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._rebind = False
        self._warned = False

    async def start(self) -> None:
        """Begins to announce and to listen; does not raise if mDNS does not work here."""
        await self._refresh()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Says goodbye to the network and stops."""
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._shut()

    def rescan(self) -> None:
        """Binds to the interfaces anew, now: the machine woke, or a network changed."""
        self._rebind = True
        self._wake.set()

    def show_pairing(self, port: int | None) -> None:
        """Announces the port of an open pairing window, or that there is none."""
        self._pairing_port = port
        self._wake.set()

    def nearby(self) -> tuple[Nearby, ...]:
        """Nodes of other meshes, sorted by address."""
        ours = set(self._hints())
        others = (seen for seen in self._seen.values() if seen.hint not in ours)
        return tuple(
            sorted(
                (
                    Nearby(seen.addresses[0], seen.pairing_port is not None, seen.pairing_port, seen.hint.hex())
                    for seen in others
                ),
                key=lambda entry: entry.address,
            )
        )

    async def _watch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self._refresh()

    async def _refresh(self) -> None:
        """Brings what is bound and announced in line with the interfaces, the hint and the pairing window."""
        try:
            addresses = peer_addresses(self._interfaces(), self._listen_host, self._include_virtual)
            if self._zeroconf is None or self._rebind or addresses != self._addresses:
                self._rebind = False
                await self._shut()
                self._addresses = addresses
                await self._open(addresses)
            elif self._record() != self._shown:
                self._shown = self._record()
                self._changes += 1
                self._stop_announcing()
                self._announcing = await self._zeroconf.async_update_service(self._info())
        except Exception as error:  # zeroconf and the system fail in many ways; the node works without mDNS
            await self._shut()
            if not self._warned:
                self._warned = True
                log.warning(
                    "mDNS does not work here (%s), so nearby nodes are not found by themselves: name one with "
                    "--peer HOST:PORT. It is tried again as long as the node runs.",
                    error or type(error).__name__,
                )
        else:
            self._warned = False
        self._offer(self._seen.values())

    def _offer(self, entries: Iterable[Seen]) -> None:
        """Tells of the nodes that show a hint of ours; again and again, since our hints change and so do the nodes'."""
        ours = set(self._hints())
        for address in [address for seen in entries if seen.hint in ours for address in seen.addresses]:
            self._found(address)

    async def _open(self, addresses: tuple[str, ...]) -> None:
        self._zeroconf = AsyncZeroconf(interfaces=list(addresses), ip_version=IPVersion.V4Only)
        self._token = secrets.token_hex(8)
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._on_change])
        self._shown = self._record()
        # The name is random, so nobody can have it already: the probing that would take 0.7 s is left out.
        self._announcing = await self._zeroconf.async_register_service(self._info(), cooperating_responders=True)

    def _stop_announcing(self) -> None:
        """An announcement is repeated for half a second: it must not follow a newer one, or the goodbye."""
        if self._announcing:
            self._announcing.cancel()
            self._announcing = None

    async def _shut(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        browser, self._browser = self._browser, None
        self._stop_announcing()
        for task in self._resolving:
            task.cancel()
        self._seen.clear()
        if zeroconf:
            try:
                if browser:
                    await browser.async_cancel()
                await zeroconf.async_close()
            except Exception as error:  # a network that is gone takes no goodbye
                log.debug("mDNS did not close cleanly (%s).", error)

    def _record(self) -> dict[str, str]:
        return {"v": RECORD_VERSION, "h": self._hints()[0].hex(), "p": str(self._pairing_port or "")}

    def _info(self) -> AsyncServiceInfo:
        return AsyncServiceInfo(
            SERVICE,
            f"{self._token}.{SERVICE}",
            port=self._port,
            parsed_addresses=list(self._addresses),
            properties={**self._shown, "n": str(self._changes)},
            server=f"{self._token}.local.",
            host_ttl=RECORD_TTL_S,
            other_ttl=RECORD_TTL_S,
        )

    def _on_change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if name == f"{self._token}.{SERVICE}":
            return
        if state_change is ServiceStateChange.Removed:
            self._seen.pop(name, None)
        elif len(self._resolving) < RESOLVING_MAX:
            task = asyncio.create_task(self._resolve(zeroconf, service_type, name))
            self._resolving.add(task)
            task.add_done_callback(self._resolving.discard)

    async def _resolve(self, zeroconf: Zeroconf, service_type: str, name: str) -> None:
        info = AsyncServiceInfo(service_type, name)
        if not await info.async_request(zeroconf, RESOLVE_TIMEOUT_MS):
            return
        seen = read_record(info.parsed_scoped_addresses(IPVersion.V4Only), info.port, info.properties)
        if seen is None or (name not in self._seen and len(self._seen) >= SEEN_MAX):
            return
        self._seen[name] = seen
        self._offer([seen])


def read_record(hosts: Sequence[str], port: int | None, properties: dict[bytes, Any]) -> Seen | None:
    """What a service's addresses, port and TXT values say; None if they are not those of a node of this version."""
    texts = {key: (properties.get(key) or b"").decode("ascii", "replace") for key in (b"v", b"h", b"p")}
    try:
        hint = bytes.fromhex(texts[b"h"])
        pairing_port = int(texts[b"p"]) if texts[b"p"] else None
    except ValueError:
        return None
    if texts[b"v"] != RECORD_VERSION or len(hint) != HINT_BYTES or not hosts:
        return None
    if not port or not 0 < port <= 65_535 or (pairing_port is not None and not 0 < pairing_port <= 65_535):
        return None
    return Seen(tuple(join_address(host, port) for host in hosts[:ADDRESSES_MAX]), hint, pairing_port)
