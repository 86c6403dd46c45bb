"""The daemon's side of a child process: start it, call it with deadlines, hear of its death, end it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import cast

from peerinfer.errors import ChildDied, ProcessError
from peerinfer.packing import unpack
from peerinfer.process import pipe
from peerinfer.process.inside import JOIN_MAX_BYTES, Part

CALLS_MAX = 256
"""Calls under way at once; more is a fault of the caller, not load."""
START_DEADLINE_S = 60.0
"""Until a child's imports are done: a cold disk and native libraries take their time."""
END_GRACE_S = 2.0
"""Between closing a child's pipe and killing it."""
EXIT_GRACE_S = 0.5
"""Between a pipe that the child closed and killing it."""
LOG_LINES = 40
"""Last lines of a child's stderr that are kept to explain its death."""
ERROR_MAX_BYTES = 65_536

EventHandler = Callable[[bytes], None]
DeathHandler = Callable[[ChildDied], None]


class CallFailed(ProcessError):
    """The child's service raised an error; `code_text` is its code, `str()` its sentence."""

    def __init__(self, code_text: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code_text = code_text


class Child(asyncio.SubprocessProtocol):
    """One child process serving calls in order. Make it with `Child.start`."""

    def __init__(self, label: str, on_event: EventHandler | None, on_death: DeathHandler | None) -> None:
        self.label = label
        self._on_event = on_event
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._calls: deque[asyncio.Future[bytes]] = deque()
        self._reader = pipe.FrameReader()
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._up: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._wanted_end = False
        self.death: ChildDied | None = None

    @classmethod
    async def start(
        cls,
        module: str,
        label: str,
        *,
        memory_limit_bytes: int | None = None,
        on_event: EventHandler | None = None,
        on_death: DeathHandler | None = None,
    ) -> Child:
        """Starts `module`'s service in a child and waits until it is up. Raises `ProcessError`.

        `on_death` is called once, on the loop, if the child ends without `stop` having been asked.
        """
        child = cls(label, on_event, on_death)
        limit = [] if memory_limit_bytes is None else [str(memory_limit_bytes)]
        command = [sys.executable, "-P", "-m", "peerinfer.process.inside", module, *limit]
        try:
            await child._loop.subprocess_exec(lambda: child, *command, env=_environment())
            async with asyncio.timeout(START_DEADLINE_S):
                await asyncio.shield(child._up)
        except TimeoutError:
            await child.stop()
            raise ProcessError(f"The {label} did not start within {START_DEADLINE_S:.0f} s.") from None
        except OSError as error:
            raise ProcessError(f"The {label} could not be started: {error}.") from error
        except asyncio.CancelledError:
            child.kill()
            raise
        return child

    @property
    def alive(self) -> bool:
        """Whether calls can be made."""
        return self.death is None and not self._wanted_end

    @property
    def pid(self) -> int:
        """The child's process id."""
        return 0 if self._transport is None else self._transport.get_pid() or 0

    def post(self, kind: int, *parts: Part) -> asyncio.Future[bytes]:
        """Sends a call; the future gives its answer, `CallFailed` or `ChildDied`."""
        answer: asyncio.Future[bytes] = self._loop.create_future()
        if self.death is not None or self._stdin is None or self._wanted_end:
            answer.set_exception(self.death or ChildDied(f"The {self.label} has been stopped."))
            return answer
        if len(self._calls) >= CALLS_MAX:
            answer.set_exception(ProcessError(f"Too many calls to the {self.label} are under way."))
            return answer
        self._calls.append(answer)
        length = sum(len(part) for part in parts)
        head = pipe.HEAD.pack(length, kind)
        if length <= JOIN_MAX_BYTES:
            self._stdin.write(b"".join((head, *parts)))
        else:
            self._stdin.writelines((head, *parts))
        return answer

    async def call(self, kind: int, *parts: Part, deadline_s: float) -> bytes:
        """One call with a deadline; past it the child is killed, since it can no longer be trusted."""
        try:
            async with asyncio.timeout(deadline_s):
                return await self.post(kind, *parts)
        except TimeoutError:
            self.kill()
            raise ProcessError(f"The {self.label} gave no answer within {deadline_s:.0f} s and was stopped.") from None

    def kill(self) -> None:
        """Ends the child at once."""
        if self._transport is not None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()

    async def stop(self, grace_s: float = END_GRACE_S) -> None:
        """Closes the pipe, waits, then kills. Safe to call twice."""
        self._wanted_end = True
        if self._stdin is not None:
            self._stdin.close()
        if self._transport is None:
            return
        try:
            async with asyncio.timeout(grace_s):
                await asyncio.shield(self._ended)
        except TimeoutError:
            self.kill()
            await asyncio.shield(self._ended)

    # asyncio.SubprocessProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transports."""
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._stdin = cast("asyncio.WriteTransport | None", self._transport.get_pipe_transport(0))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Frames from stdout, log lines from stderr."""
        if fd != 1:
            self._log.extend(line[:500] for line in data.decode("utf-8", "replace").splitlines() if line.strip())
            return
        try:
            for kind, body in self._reader.feed(data):
                self._frame(kind, body)
        except ProcessError as error:
            self._log.append(str(error))
            self.kill()

    def _frame(self, kind: int, body: bytes) -> None:
        if kind == pipe.EVENT:
            if not self._up.done():
                self._up.set_result(None)
            elif self._on_event is not None:
                self._on_event(body)
            return
        if not self._calls:
            raise ProcessError("An answer that nobody asked for.")
        answer = self._calls.popleft()
        if answer.done():
            return
        if kind == pipe.OK:
            answer.set_result(body)
        else:
            answer.set_exception(_failure(body))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002
        """A closed stdout means that nothing more will be answered: the child must end."""
        if fd == 1 and not self._wanted_end:  # most likely it has just ended: then its exit status says why
            self._loop.call_later(EXIT_GRACE_S, self._end_if_running)

    def _end_if_running(self) -> None:
        if not self._ended.done():
            self.kill()

    def process_exited(self) -> None:
        """The child is gone: every call under way fails with its death."""
        code = None if self._transport is None else self._transport.get_returncode()
        last = f" Its last words: {self._log[-1]}" if self._log and not self._wanted_end else ""
        self.death = ChildDied(f"The {self.label} ended unexpectedly ({_cause(code)}).{last}")
        for answer in self._calls:
            if not answer.done():
                answer.set_exception(self.death)
        self._calls.clear()
        if not self._up.done():
            self._up.set_exception(self.death)
            self._up.exception()  # told to whoever waits; nobody waiting is fine too
        if not self._ended.done():
            self._ended.set_result(None)
        if not self._wanted_end and self._on_death is not None:
            self._on_death(self.death)


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by signal {-code}"
    return f"exit status {code}"


def _failure(body: bytes) -> ProcessError:
    try:
        raw = unpack(body, ERROR_MAX_BYTES)
    except ValueError:
        return ProcessError("A child reported an error that cannot be read.")
    if isinstance(raw, list):
        items = cast(list[object], raw)
        if len(items) == 2 and all(isinstance(item, str) for item in items):
            return CallFailed(str(items[0]), str(items[1]))
    return ProcessError("A child reported an error that cannot be read.")


def _environment() -> dict[str, str]:
    """The child's environment: ours, with one BLAS thread (engines bring their own) and UTF-8."""
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1"}
