"""`invite --confirm`: a person is asked about each machine that knows the digits, while the invitation goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Mapping
from types import TracebackType

from peerinfer.api.client import ApiClient
from peerinfer.cli.show import ENDED_WITH, SHORT_ID, ProgressLine, note
from peerinfer.errors import PeerinferError

YES = frozenset({"y", "yes"})
ANSWER_MAX_BYTES = 256
"""Of a typed line: what follows is another one, and no answer either."""


class Doorman:
    """Asks about one machine at a time. Leaving the `with` takes back what is still asked."""

    def __init__(self, client: ApiClient, line: ProgressLine) -> None:
        self._client = client
        self._line = line
        self._typed = TypedLines()
        self._asking: asyncio.Task[None] | None = None
        self._name = ""
        self.is_asking = False
        """Whether a question stands on the terminal, which nothing else should be written over."""

    def ask(self, asking: Mapping[str, str]) -> None:
        """Asks about the machine with this `node` and `name`."""
        self.withdraw()
        node, self._name = asking["node"], asking["name"] or "A machine"
        self._line.end()
        self.is_asking = True
        typed = self._typed.next()
        question = f"{self._name} ({node[:SHORT_ID]}) knows the digits. Let it in? [y/N] "
        print(question, end="", file=sys.stderr, flush=True)
        self._asking = asyncio.get_running_loop().create_task(self._answer(node, self._name, typed))

    def withdraw(self) -> None:
        """The machine waits no longer: what is typed from now on is no answer."""
        if self._take_back():
            note(f"{self._name} waits no longer.")

    def _take_back(self) -> bool:
        """Whether a question stood there."""
        stood, self.is_asking = self.is_asking, False
        if self._asking is not None:
            self._asking.cancel()
        if stood:
            note("")
        return stood

    async def _answer(self, node: str, name: str, typed: asyncio.Future[str]) -> None:
        line = await typed
        self.is_asking = False
        if not line:
            note("")  # stdin is closed, and nobody ended the line
        accept = line.strip().lower() in YES
        try:
            await self._client.act("answer", {"node": node, "accept": accept})
        except PeerinferError as error:
            note(f"{ENDED_WITH}{error}")
        else:
            if not accept:
                note(f"{name} was not let in; the invitation stays open.")

    def __enter__(self) -> Doorman:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_back()


class TypedLines:
    """Lines from stdin, one for each that is wanted, read in a thread that nothing has to wait for at the end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wanted: asyncio.Future[str] | None = None
        self._is_reading = False

    def next(self) -> asyncio.Future[str]:
        """The line that is typed next, from now on; empty once stdin is closed."""
        self._wanted = self._loop.create_future()
        if not self._is_reading:
            self._is_reading = True
            _forget_what_was_typed()
            threading.Thread(target=self._read, daemon=True).start()
        return self._wanted

    def _read(self) -> None:
        line = _line_of_stdin()
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            self._loop.call_soon_threadsafe(self._take, line)

    def _take(self, line: str) -> None:
        self._is_reading = False
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(line)


def _line_of_stdin() -> str:
    """Read from the descriptor: a thread that is left inside `sys.stdin` would break the interpreter's end."""
    line = b""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # there is no stdin
        descriptor = sys.stdin.fileno()
        while len(line) < ANSWER_MAX_BYTES and (byte := os.read(descriptor, 1)):
            line += byte
            if byte == b"\n":
                break
    return line.decode("utf-8", "replace")


def _forget_what_was_typed() -> None:
    """What was typed before a question stood there is no answer to it."""
    if sys.platform == "win32":
        import msvcrt

        while msvcrt.kbhit():
            msvcrt.getwch()
        return
    import termios

    with contextlib.suppress(AttributeError, OSError, ValueError, termios.error):  # no terminal: nothing is typed ahead
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
