"""The child's side: `python -m peerinfer.process.inside MODULE [memory limit]` serves MODULE's `open_service()`.

A service is a callable `(kind, body, emit) -> parts of the answer`; it runs on the main thread, one call after
the other. Whatever it raises goes back as a sentence; a `PeerinferError` keeps its code. When the daemon's
end of the pipe closes, or the daemon is gone, the child ends at once.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import psutil

from peerinfer.errors import PeerinferError
from peerinfer.packing import pack
from peerinfer.process import pipe
from peerinfer.process.limits import limit_memory

PARENT_POLL_S = 2.0
"""How often a child that is busy in native code looks whether its daemon still lives."""
JOIN_MAX_BYTES = 65_536
"""Answers up to this size are joined into one write; larger parts are written one by one, uncopied."""

Part = bytes | bytearray | memoryview
Emit = Callable[[bytes], None]


class Service(Protocol):
    """What a child's module serves."""

    def __call__(self, kind: int, body: memoryview, emit: Emit) -> Sequence[Part]:
        """Answers one call; `emit` sends an event while it works."""
        ...


def main(arguments: Sequence[str]) -> int:
    """Runs the service until the pipe closes."""
    if len(arguments) > 1:
        limit_memory(int(arguments[1]))
    source, sink = _take_standard_pipes()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    module = importlib.import_module(arguments[0])
    service = cast(Callable[[], Service], module.open_service)()
    _write(sink, pipe.EVENT, [b""])  # tells the daemon that the service is up
    _serve(service, source, sink)
    return 0


def _serve(service: Service, source: io.BufferedReader, sink: io.FileIO) -> None:
    def emit(body: bytes) -> None:
        _write(sink, pipe.EVENT, [body])

    while True:
        head = source.read(pipe.HEAD.size)
        if len(head) < pipe.HEAD.size:
            return
        length, kind = pipe.HEAD.unpack(head)
        body = bytearray(length)
        if source.readinto(body) < length:
            return
        try:
            parts = service(kind, memoryview(body), emit)
        except PeerinferError as error:
            _write(sink, pipe.FAILED, [pack([error.code, str(error)])])
        except MemoryError:
            _write(sink, pipe.FAILED, [pack(["memory", "There was not enough memory for this."])])
        except Exception as error:
            _write(sink, pipe.FAILED, [pack(["internal_error", f"{type(error).__name__}: {error}"[:2000]])])
        else:
            _write(sink, pipe.OK, parts)


def _write(sink: io.FileIO, kind: int, parts: Sequence[Part]) -> None:
    length = sum(len(part) for part in parts)
    head = pipe.HEAD.pack(length, kind)
    if length <= JOIN_MAX_BYTES:
        _write_all(sink, b"".join((head, *parts)))
        return
    _write_all(sink, head)
    for part in parts:
        _write_all(sink, part)


def _write_all(sink: io.FileIO, data: Part) -> None:
    view = memoryview(data)
    while view:
        view = view[sink.write(view) or 0 :]


def _take_standard_pipes() -> tuple[io.BufferedReader, io.FileIO]:
    """Moves the pipes away from fds 0 and 1, so that a stray print of native code cannot corrupt them."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415

        msvcrt.setmode(0, os.O_BINARY)
        msvcrt.setmode(1, os.O_BINARY)
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return io.BufferedReader(io.FileIO(source, "rb"), JOIN_MAX_BYTES), io.FileIO(sink, "wb")


def _end_with_parent(parent: int) -> None:
    daemon = psutil.Process(parent)  # Windows keeps naming a parent that is gone, so it must be looked at, too
    while os.getppid() == parent and daemon.is_running():
        time.sleep(PARENT_POLL_S)
    os._exit(1)


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except (BrokenPipeError, KeyboardInterrupt):
        code = 0
    sys.stderr.flush()
    os._exit(code)  # no teardown of native libraries: some crash in it, and the system frees all anyway
