"""Pairing messages on the wire: each with its length in front, over a TLS stream."""

from __future__ import annotations

import asyncio

from peerinfer.errors import BadFrame
from peerinfer.identity.admission import ADMISSION_MAX_BYTES
from peerinfer.identity.pairing_messages import (
    PairingAdmit,
    PairingAnswer,
    PairingConfirm,
    PairingRefused,
    PairingStart,
)
from peerinfer.net.messages import Tag, decode, encode, message

HOST_READS_MAX_BYTES = 64 * 1024
"""One message from whoever connects to an invitation; honest ones have under 2 kB."""
JOINER_READS_MAX_BYTES = ADMISSION_MAX_BYTES + 1024
"""One message from the host: an admission carries the whole roster."""
_LENGTH_BYTES = 4

message(Tag.PAIRING_START)(PairingStart)
message(Tag.PAIRING_ANSWER)(PairingAnswer)
message(Tag.PAIRING_CONFIRM)(PairingConfirm)
message(Tag.PAIRING_ADMIT)(PairingAdmit)
message(Tag.PAIRING_REFUSED)(PairingRefused)


async def read_message(reader: asyncio.StreamReader, max_bytes: int) -> object:
    """The next message. Raises `BadFrame`, `asyncio.IncompleteReadError` or `OSError`."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > max_bytes:
        raise BadFrame(f"A pairing message of {length} bytes is over the limit of {max_bytes}.")
    return decode(await reader.readexactly(length))


def write_message(writer: asyncio.StreamWriter, value: object) -> None:
    """Queues a message; `drain` sends it."""
    data = encode(value)
    writer.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
