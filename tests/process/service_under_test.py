"""A child's service for tests: echoes, fails, hangs, dies, eats memory, and prints where it should not."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from peerinfer.errors import BadRequest
from peerinfer.process.inside import Emit, Part

ECHO, FAIL, HANG, DIE, EAT, EVENTS, PRINT, BREAK = range(1, 9)


def serve(kind: int, body: memoryview, emit: Emit) -> Sequence[Part]:
    match kind:
        case 2:
            raise BadRequest("You asked for this.")
        case 3:
            time.sleep(600)
        case 4:
            sys.stderr.write("my last words\n")
            sys.stderr.flush()
            os._exit(7)
        case 5:
            return [str(len(bytearray(int(bytes(body))))).encode()]
        case 6:
            for number in range(3):
                emit(str(number).encode())
        case 7:
            os.write(1, b"native chatter on stdout")
        case 8:
            raise ValueError("not one of ours")
        case _:
            pass
    return [bytes(body), b""]


def open_service() -> object:
    return serve
