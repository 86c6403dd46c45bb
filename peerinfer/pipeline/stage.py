"""One stage on this node: feeds frames to its engine's child in order and hands the answers on.

The daemon routes bytes and decides nothing about their content: slots, positions and sampling are the child's.
When the child dies it is started again; what was in it is lost, and the first stage hears so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from peerinfer.clock import Clock, monotonic_us
from peerinfer.engine.base import StageSpec
from peerinfer.engine.host import StageHost, engine_failure, sampled_tokens, split_answer
from peerinfer.errors import LinkDown, PeerinferError
from peerinfer.net.frames import stamped
from peerinfer.pipeline.messages import SampledRow, StepDone, StepTrouble, Token
from peerinfer.pipeline.ring import Ring
from peerinfer.pipeline.times import StageTimes

RUNNING_MAX = 2
"""Frames in the child at once: one computing, one behind it, so that the child never waits for the daemon."""
INBOX_MAX = 64
"""Frames that wait here; the first stage never has that many under way, so more is a fault."""
CALL_MAX_S = 110.0
"""A child that has not answered a step by then hangs, and is killed: a little before the first stage gives it up."""
REBIRTHS_MAX = 3
"""Deaths of the child within `REBIRTH_SPAN_S` after which the stage is given up."""
REBIRTH_SPAN_S = 60.0
BUSY_S = 2.0
"""After a step a stage counts as busy for so long: the next one of the same answer comes sooner."""

Parts = tuple[bytes | memoryview, ...]
Report = Callable[[str, str, float], None]
"""Told (state, reason, progress): `loading`, `ready` or `failed`."""
Prepare = Callable[[Callable[[float], None]], Awaitable[StageSpec]]
"""Makes ready what a stage loads; tells the share done, 0 … 1."""

Settle = Callable[[StageHost], Awaitable[None]]
"""Measures a stage that was just loaded, before it takes requests; it may fail without harm."""

log = logging.getLogger(__name__)


async def unmeasured(_host: StageHost) -> None:
    """Measures nothing."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """One that came in and has no answer yet."""

    step: int
    parts: Parts
    decode_rows: int
    arrived_us: int


class Post(Protocol):
    """How a stage reaches other nodes, and its own: the switchboard."""

    own_id: str

    def send(self, to: str, message: object) -> None:
        """Sends a control message. Raises `LinkDown`."""
        ...

    def try_send_frame(self, to: str, parts: Parts) -> bool:
        """Sends a tensor frame if the link can take it at once. Raises `LinkDown`."""
        ...

    async def send_frame(self, to: str, parts: Parts) -> None:
        """Sends a tensor frame, waiting for room. Raises `LinkDown`."""
        ...


class StageRunner:
    """Runs one stage from `start` to `stop`."""

    def __init__(self, ring: Ring, post: Post, report: Report, clock: Clock) -> None:
        self.ring = ring
        self.times = StageTimes()
        self.state = "loading"
        self.progress = 0.0
        self._post = post
        self._report = report
        self._clock = clock
        self._host: StageHost | None = None
        self._inbox: deque[_Frame] = deque()
        self._running = 0
        self._outbox: asyncio.Queue[tuple[int, Parts]] = asyncio.Queue()
        self._unsent = 0
        self._deaths: deque[float] = deque(maxlen=REBIRTHS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._stepped_at = -BUSY_S

    def start(self, prepare: Prepare, settle: Settle = unmeasured) -> None:
        """Begins to load: `prepare` makes or fetches the shard, tells its progress, and gives the spec.

        `settle` may measure the stage before it is ready.
        """
        self._spawn(self._load(prepare, settle))
        self._spawn(self._send_queued())

    async def stop(self) -> None:
        """Ends the child; frames that wait are dropped."""
        self._stopped = True
        for task in list(self._tasks):
            task.cancel()
        self._inbox.clear()
        if self._host is not None:
            await self._host.stop()

    def deliver(self, step: int, parts: Parts, decode_rows: int) -> None:
        """Takes a frame, in order. `decode_rows` is 0 unless every row is one token: those steps are measured."""
        if self.state == "failed":
            self._trouble(step, "engine_died", "The engine of one stage cannot be started. Load the model again.")
            return
        if len(self._inbox) >= INBOX_MAX:
            self._trouble(step, "engine_error", "Too many steps wait at one stage.")
            return
        self._inbox.append(_Frame(step, parts, decode_rows, monotonic_us()))
        self._stepped_at = self._clock()
        self._feed()

    @property
    def is_busy(self) -> bool:
        """Whether requests run through this stage."""
        return self._clock() - self._stepped_at < BUSY_S

    @property
    def pid(self) -> int:
        """Process id of the child; 0 while there is none."""
        return 0 if self._host is None else self._host.pid

    async def measure(self) -> dict[str, int]:
        """Memory and slots of the child; empty while there is none."""
        return {} if self._host is None else await self._host.measure()

    # ---- the child

    async def _load(self, prepare: Prepare, settle: Settle) -> None:
        try:
            spec = await prepare(lambda share: self._loading(share * 0.5))
            host = await StageHost.start(spec, lambda share: self._loading(0.5 + share * 0.5), self._died)
        except PeerinferError as error:
            self._give_up(str(error))
        except Exception as error:
            log.exception("A stage could not be prepared.")
            self._give_up(f"The stage could not be prepared ({type(error).__name__}: {error}).")
        else:
            await self._settle(settle, host)
            if not host.alive and not self._stopped:  # it died of being measured: once more, and without
                await self._reload(spec)
                return
            self._up(host)

    async def _settle(self, settle: Settle, host: StageHost) -> None:
        try:
            await settle(host)
        except asyncio.CancelledError:
            host.kill()  # nobody knows of this child yet
            raise
        except Exception as error:  # a figure is missing then; the stage runs
            log.warning("A stage could not be measured: %s", error)

    async def _reload(self, spec: StageSpec) -> None:
        try:
            self._up(await StageHost.start(spec, self._loading, self._died))
        except PeerinferError as error:
            self._give_up(str(error))
        except Exception as error:
            log.exception("An engine could not be started again.")
            self._give_up(f"The engine could not be started again ({type(error).__name__}: {error}).")

    def _up(self, host: StageHost) -> None:
        if self._stopped:  # it came up as this stage was let go
            host.kill()
            return
        if not host.alive:
            self._give_up("The engine died as soon as it had loaded. Load the model again.")
            return
        self._host = host
        self._become("ready", "", 1.0)
        self._feed()

    def _died(self, death: PeerinferError) -> None:
        """The child is gone; its calls have failed already. Start another, unless it keeps dying."""
        host, self._host = self._host, None
        now = self._clock()
        if self._stopped or host is None:
            return
        log.warning("%s It is started again.", death)
        if len(self._deaths) == REBIRTHS_MAX and now - self._deaths[0] < REBIRTH_SPAN_S:
            self._give_up(f"The engine died {REBIRTHS_MAX + 1} times in a minute. {death}")
            return
        self._deaths.append(now)
        self._running = 0
        self._become("loading", str(death), 0.0)
        self._spawn(self._reload(host.spec))

    def _loading(self, progress: float) -> None:
        if self.state == "loading":
            self._become("loading", "", progress)

    def _give_up(self, reason: str) -> None:
        self._become("failed", reason, 0.0)
        while self._inbox:
            self._trouble(self._inbox.popleft().step, "engine_died", reason)

    def _become(self, state: str, reason: str, progress: float) -> None:
        if not self._stopped:
            self.state, self.progress = state, progress
            self._report(state, reason, progress)

    # ---- frames

    def _feed(self) -> None:
        while self._inbox and self._host is not None and self._running < RUNNING_MAX:
            frame = self._inbox.popleft()
            self._running += 1
            answer = self._host.run(*frame.parts)
            timer = asyncio.get_running_loop().call_later(CALL_MAX_S, self._host.kill)
            answer.add_done_callback(lambda _, timer=timer: timer.cancel())
            answer.add_done_callback(partial(self._answered, self._host, frame, monotonic_us()))

    def _answered(self, host: StageHost, frame: _Frame, sent_us: int, answer: asyncio.Future[bytes]) -> None:
        if host is self._host:
            self._running -= 1
        error = None if answer.cancelled() else answer.exception()
        if answer.cancelled() or self._stopped:
            return
        if isinstance(error, Exception):
            failure = engine_failure(error)
            self._trouble(frame.step, failure.code, str(failure))
            self._feed()
            return
        times, output = split_answer(answer.result())
        came_us = handed_us = monotonic_us()
        if self.ring.is_last:
            self._tell_tokens(frame.step, output)
            handed_us = monotonic_us()
        else:  # from its stamp on, the time is the hop's
            self._send(frame.step, stamped(output, handed_us))
        if frame.decode_rows:
            self.times.step(handed_us - frame.arrived_us, came_us - sent_us, times, frame.decode_rows)
        self._feed()

    def _tell_tokens(self, step: int, output: memoryview) -> None:
        """The first stage first, since it starts the next step at once; then the gateways."""
        tokens = sampled_tokens(output)
        instance = self.ring.instance
        rows = tuple(SampledRow(each.slot, each.generation, each.token, each.finish) for each in tokens)
        self._tell(self.ring.first_node, StepDone(instance.id, instance.epoch, step, rows))
        for each in tokens:
            self._tell(each.gateway, Token(each.request_id, each.index, each.token, each.finish))

    def _send(self, step: int, parts: Parts) -> None:
        try:
            if not self._unsent and self._post.try_send_frame(self.ring.next_node, parts):
                return
        except LinkDown as error:
            self._trouble(step, "link_down", str(error))
            return
        self._unsent += 1  # bounded by the steps that the first stage has under way
        self._outbox.put_nowait((step, parts))

    async def _send_queued(self) -> None:
        while True:
            step, parts = await self._outbox.get()
            try:
                await self._post.send_frame(self.ring.next_node, parts)
            except PeerinferError as error:
                self._trouble(step, "link_down", str(error))
            self._unsent -= 1

    def _trouble(self, step: int, code: str, reason: str) -> None:
        instance = self.ring.instance
        self._tell(
            self.ring.first_node, StepTrouble(instance.id, instance.epoch, step, self.ring.stage, code, reason[:1000])
        )

    def _tell(self, node: str, message: object) -> None:
        try:
            self._post.send(node, message)
        except LinkDown:
            log.debug("A message for %s found no link; its sequences end when their deadline passes.", node[:8])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
