"""What a stranger on the drill's network gets: a capture of all that the bridge passes, and doors that stay shut."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from drill_hosts import BRIDGE, BRIDGE_NETNS, END_S, DrillFailed, enter

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_STATISTICS = 263, 6
"""From <linux/socket.h>, <linux/if_packet.h>; Python has no names for them."""
CAPTURE_BUFFER_BYTES = 64 << 20
QUIET_S = 0.2
FRAMES_MAX = 1_000_000
"""A network that never falls quiet must not keep the capture for ever."""
ETHERNET_BYTES = 14
SHORT = 6
"""Texts below this length are sought in their own case only: megabytes of cipher text hold any three letters."""


class Capture:
    """Every frame that the bridge passes on, from `with` to its end."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.lost = 0
        """Frames that came faster than they were read: a search would have missed them."""
        self._listens = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Capture:
        self._thread.start()
        if not self._listens.wait(END_S):
            raise DrillFailed("The capture did not begin.")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(END_S)

    def _read(self) -> None:
        enter(BRIDGE_NETNS)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire:
            wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, CAPTURE_BUFFER_BYTES)
            wire.bind((BRIDGE, 0))
            wire.settimeout(QUIET_S)
            self._listens.set()
            while self._more(wire):
                pass
            self.lost = struct.unpack("II", wire.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]

    def _more(self, wire: socket.socket) -> bool:
        """Takes one frame; False once it shall stop and what came before has been taken."""
        try:
            self.frames.append(wire.recv(1 << 18))
        except TimeoutError:
            return not self._stop.is_set()
        return len(self.frames) < FRAMES_MAX

    def texts(self) -> Iterable[bytes]:
        """Each frame; then each direction of each TCP connection as one piece, for what was cut by frames."""
        yield from self.frames
        flows: dict[bytes, list[bytes]] = {}
        for frame in self.frames:
            if frame[12:14] == b"\x08\x00" and frame[ETHERNET_BYTES + 9] == socket.IPPROTO_TCP:
                ip = frame[ETHERNET_BYTES:]
                tcp = ip[(ip[0] & 15) * 4 : int.from_bytes(ip[2:4], "big") or None]  # 0: too long for its field
                flows.setdefault(ip[12:20] + tcp[:4], []).append(tcp[(tcp[12] >> 4) * 4 :])
        yield from (b"".join(pieces) for pieces in flows.values())

    def holds(self, needle: str) -> bool:
        """Whether a text passed in the open, as UTF-8 or UTF-16."""
        fold = bytes.lower if len(needle) >= SHORT else bytes
        forms = [fold(needle.encode(form)) for form in ("utf-8", "utf-16-le", "utf-16-be")]
        return any(form in text for text in map(fold, self.texts()) for form in forms)


def knock(address: str, port: int, certificate: Path | None, key: Path | None) -> str:
    """Speaks TLS to a peer port with a certificate and its key (None: in the same file), or with none.

    Returns how TLS refused it, or an empty text if it was let in, told anything, or sent away politely: a TLS session
    that came about ends with a close notice, one that was refused does not.
    """
    context = _credulous()
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    try:
        with (
            socket.create_connection((address, port), END_S) as plain,
            context.wrap_socket(plain, server_hostname="peerinfer", suppress_ragged_eofs=False) as door,
        ):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                door.sendall(b"GET / HTTP/1.1\r\nHost: peerinfer\r\n\r\n")
            door.recv(1)
            return ""
    except ssl.SSLError as error:
        return f"TLS {error.reason or error.strerror}"
    except ConnectionError as error:
        return type(error).__name__


def greeting(address: str, port: int) -> bytes:
    """The certificate that a peer port shows to anybody, in DER."""
    with (
        socket.create_connection((address, port), END_S) as plain,
        _credulous().wrap_socket(plain, server_hostname="peerinfer") as door,
    ):
        return door.getpeercert(binary_form=True) or b""


def _credulous() -> ssl.SSLContext:
    """A client that believes any server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def is_shut(address: str, port: int) -> bool:
    """Whether nothing listens there for others."""
    try:
        socket.create_connection((address, port), END_S).close()
    except OSError:
        return True
    return False


def self_made(folder: Path) -> Path:
    """A certificate signed by itself, with its key, as one file in `folder`."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stranger")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, None)
    )
    file = folder / "stranger.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + made.public_bytes(Encoding.PEM))
    return file
