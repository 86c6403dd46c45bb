"""What waits to be sent on one link: two bounded lanes, control ahead of data. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

CONTROL_MAX_MESSAGES: Final = 1024
"""Control messages are small and few: this many waiting means that the peer has stopped reading."""
CONTROL_MAX_BYTES: Final = 8 * 1024 * 1024
"""Two messages of the greatest size, or a thousand of the usual one."""
DATA_MAX_FRAMES: Final = 16
"""More frames than micro-batches in flight would only hide that the link is the bottleneck."""
DATA_MAX_BYTES: Final = 128 * 1024 * 1024
"""Two frames of the greatest size: one on its way, one behind it."""


class SendQueue:
    """Bytes that wait for the transport. Each lane keeps its own order."""

    __slots__ = ("_control", "_control_bytes", "_data", "_data_bytes")

    def __init__(self) -> None:
        self._control: deque[bytes] = deque()
        self._data: deque[bytes] = deque()
        self._control_bytes = 0
        self._data_bytes = 0

    def __len__(self) -> int:
        return len(self._control) + len(self._data)

    @property
    def control_waits(self) -> bool:
        """Whether control messages wait."""
        return bool(self._control)

    def put_control(self, data: bytes) -> bool:
        """Queues a control message; false, and nothing queued, if the lane is full."""
        if len(self._control) >= CONTROL_MAX_MESSAGES or self._control_bytes + len(data) > CONTROL_MAX_BYTES:
            return False
        self._control.append(data)
        self._control_bytes += len(data)
        return True

    def has_room_for(self, n_bytes: int) -> bool:
        """Whether a frame of `n_bytes` may be queued now."""
        return len(self._data) < DATA_MAX_FRAMES and self._data_bytes + n_bytes <= DATA_MAX_BYTES

    def put_data(self, data: bytes) -> None:
        """Queues a frame for which `has_room_for` said yes."""
        self._data.append(data)
        self._data_bytes += len(data)

    def pop(self) -> bytes:
        """The next bytes to send: control if there is any, else data. Raises `IndexError` if nothing waits."""
        if self._control:
            data = self._control.popleft()
            self._control_bytes -= len(data)
            return data
        data = self._data.popleft()
        self._data_bytes -= len(data)
        return data
