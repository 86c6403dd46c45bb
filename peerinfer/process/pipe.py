"""Frames on the pipe between daemon and child: `u32 length · u8 kind · body`, little-endian.

The daemon sends calls (kinds chosen by the child's module) and gets exactly one `OK` or `FAILED` for each,
in order; `EVENT` frames may come in between at any time.
"""

from __future__ import annotations

import struct
from typing import Final

from peerinfer.errors import ProcessError

HEAD: Final = struct.Struct("<IB")
FRAME_MAX_BYTES: Final = 128 * 1024 * 1024
"""One frame; a tensor frame is at most 64 MiB, a vocabulary's texts a few MiB."""

OK: Final = 0
FAILED: Final = 1
EVENT: Final = 2


class FrameReader:
    """Cuts a stream of bytes into frames; feed it whatever arrived."""

    __slots__ = ("_buffer", "_kind", "_need")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need = -1
        self._kind = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames completed by `data`. Raises `ProcessError` on a frame over the limit."""
        frames: list[tuple[int, bytes]] = []
        if not self._buffer and self._need < 0 and len(data) >= HEAD.size:
            length, kind = HEAD.unpack_from(data)
            if len(data) == HEAD.size + length:  # the usual case: one whole frame, one copy
                frames.append((kind, data[HEAD.size :]))
                return frames
        self._buffer += data
        while True:
            if self._need < 0:
                if len(self._buffer) < HEAD.size:
                    return frames
                self._need, self._kind = HEAD.unpack_from(self._buffer)
                if self._need > FRAME_MAX_BYTES:
                    raise ProcessError("A child sent a frame over the limit; it is stopped.")
                del self._buffer[: HEAD.size]
            if len(self._buffer) < self._need:
                return frames
            frames.append((self._kind, bytes(memoryview(self._buffer)[: self._need])))
            del self._buffer[: self._need]
            self._need = -1
