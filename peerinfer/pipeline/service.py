"""The pipeline's door on one node: the stages it holds, and the routing of frames and messages to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

from peerinfer.clock import Clock, monotonic_us
from peerinfer.control.worker import StageAssignment
from peerinfer.engine.base import StageSpec
from peerinfer.engine.host import StageHost
from peerinfer.errors import BadFrame, LinkDown, PeerinferError
from peerinfer.gossip.snapshot import HeldStage
from peerinfer.models.warehouse import Warehouse
from peerinfer.net.frames import Epoch, is_frame_id, peek
from peerinfer.net.switchboard import Switchboard
from peerinfer.pipeline.first import FirstStage
from peerinfer.pipeline.messages import Credit, Ended, StepDone, StepTrouble, Stop, Submit
from peerinfer.pipeline.metering import BUSY_WAIT_S, LOOK_S, STEP_US, Meter, NoMeter, StageFigures, Watch, shape_of
from peerinfer.pipeline.ring import Ring
from peerinfer.pipeline.stage import Report, StageRunner

TICK_S = 0.5
"""How often lapsed credits and lost steps are looked for."""

Key = tuple[str, Epoch]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    ring: Ring
    runner: StageRunner
    first: FirstStage | None
    watch: Watch | None = None


class PipelineService:
    """Holds stages (it is control's `StageKeeper`) and feeds them from the switchboard."""

    def __init__(
        self, switchboard: Switchboard, warehouse: Warehouse, threads: int, clock: Clock, meter: Meter | None = None
    ) -> None:
        self._meter: Meter = meter or NoMeter()
        self._looked_at = clock()
        self._switchboard = switchboard
        self._warehouse = warehouse
        self._threads = threads
        self._clock = clock
        self._held: dict[Key, _Held] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._is_stopped = False
        switchboard.on_frame(self._frame)
        switchboard.on_peer(self._peer)
        switchboard.on(Submit, self._submit)
        switchboard.on(Credit, self._credit)
        switchboard.on(Stop, self._stop)
        switchboard.on(StepDone, self._step_done)
        switchboard.on(StepTrouble, self._step_trouble)

    async def run(self) -> None:
        """Ticks until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            for first in [held.first for held in self._held.values() if held.first is not None]:
                try:
                    first.tick()
                except Exception:
                    log.exception("A tick of one instance failed; the others go on.")
            if self._clock() - self._looked_at >= LOOK_S:
                self._looked_at = self._clock()
                self._look()

    def _look(self) -> None:
        """Tells the meter what running stages take."""
        for watch in [held.watch for held in self._held.values() if held.watch is not None]:
            figures = watch.look()
            if figures is not None:
                self._meter.correct(figures)

    async def stop(self) -> None:
        """Drops every stage and waits until their processes have ended; none is started from now on."""
        self._is_stopped = True
        for instance_id, epoch in list(self._held):
            self.drop(instance_id, epoch)
        await asyncio.gather(*self._ending, return_exceptions=True)

    # ---- control's StageKeeper

    def start(self, assignment: StageAssignment, report: Report) -> None:
        """Begins to load a stage; `report` hears how it goes."""
        instance = assignment.instance
        key = (instance.id, instance.epoch)
        if key in self._held or self._is_stopped:
            return
        if not (is_frame_id(instance.id) and is_frame_id(instance.epoch.node)):
            raise BadFrame("A stage of an instance whose ids are none was refused.")
        ring = Ring(instance, assignment.stage)
        runner = StageRunner(ring, self._switchboard, report, self._clock)
        first = FirstStage(ring, runner, self._switchboard, self._clock) if ring.is_first else None
        self._held[key] = _Held(ring, runner, first)
        runner.start(lambda progress: self._prepare(ring, progress), partial(self._measure, key))

    def drop(self, instance_id: str, epoch: Epoch) -> None:
        """Lets go of a stage: its requests end with a retryable reason, its process and memory go."""
        held = self._held.pop((instance_id, epoch), None)
        if held is None:
            return
        if held.first is not None:
            held.first.close("stage_lost", "This model was moved or unloaded. Send the request again.")
        task = asyncio.get_running_loop().create_task(self._end((instance_id, epoch), held.runner))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, key: Key, runner: StageRunner) -> None:
        await runner.stop()
        if key not in self._held:
            self._warehouse.release(key)

    def held(self) -> tuple[HeldStage, ...]:
        """What this node holds, and how fast it is."""
        return tuple(
            HeldStage(
                instance=instance_id,
                epoch=epoch,
                stage=held.ring.stage,
                state=held.runner.state,
                progress=held.runner.progress,
                ms_per_token=held.runner.times.engine_ms,
                hop_in_ms=held.runner.times.hop_in_ms,
                tokens=held.runner.times.tokens,
                wait_ms=held.runner.times.wait_ms,
            )
            for (instance_id, epoch), held in self._held.items()
        )

    def runner(self, instance_id: str, epoch: Epoch) -> StageRunner | None:
        """The stage of an instance on this node, for measurements."""
        held = self._held.get((instance_id, epoch))
        return None if held is None else held.runner

    def times(self) -> list[dict[str, object]]:
        """Where each stage's time goes on this node, in milliseconds per step, for the bench."""
        return [
            {"instance": instance_id, "stage": held.ring.stage, "state": held.runner.state, **asdict(held.runner.times)}
            for (instance_id, _), held in self._held.items()
        ]

    def is_busy(self) -> bool:
        """Whether requests run through a stage here."""
        return any(held.runner.is_busy for held in self._held.values())

    def active_slots(self) -> dict[str, int]:
        """Taken slots by instance, where this node runs the first stage."""
        return {key[0]: held.first.batcher.active for key, held in self._held.items() if held.first is not None}

    async def _prepare(self, ring: Ring, progress: Callable[[float], None]) -> StageSpec:
        """Has the stage's files made, or fetched, by the model's digest, and describes the stage."""
        instance = ring.instance
        first_layer, last_layer = ring.layers
        files = await self._warehouse.stage_files(
            (instance.id, instance.epoch), instance.digest, instance.model, ring.layers, progress
        )
        held = self._held.get((instance.id, instance.epoch))
        place = instance.stages[ring.stage]
        accelerated = place.accelerated
        if held is not None:
            held.watch = Watch(shape_of(files.facts, ring.layers, place.engine, accelerated), held.runner.times)
        return StageSpec(
            kind=files.kind,
            first=ring.is_first,
            shard_path=str(files.shard),
            model_path=str(files.embedding),
            layers=last_layer - first_layer,
            n_embd=files.facts.n_embd,
            n_vocab=files.facts.n_vocab,
            context=instance.context,
            slots=instance.slots,
            threads=self._threads,
            gpu_layers=-1 if accelerated is None else accelerated and accelerated + 1,
            engine=place.engine,
            record_path=str(files.record),
        )

    async def _measure(self, key: Key, host: StageHost) -> None:
        """A short decode and prefill of a stage of a kind that was not measured yet. Raises `EngineError`."""
        held = self._held.get(key)
        if held is None or held.watch is None or not self._meter.wants(held.watch.shape):
            return
        until = self._clock() + BUSY_WAIT_S
        while self.is_busy():
            if self._clock() >= until:
                return
            await asyncio.sleep(BUSY_WAIT_S / 10)
        measured, empty_us = await host.calibrate()
        stage_us = empty_us + STEP_US
        shape = held.watch.shape
        self._meter.learn(StageFigures(shape, measured.decode_us, measured.head_us, measured.prefill_us, stage_us))

    # ---- the switchboard

    def _frame(self, sender: str, data: bytes) -> None:
        try:
            head = peek(data)
        except BadFrame as error:
            log.warning("A frame from %s was dropped: %s", sender[:8], error)
            return
        held = self._held.get((head.instance, head.epoch))
        if held is None or held.ring.is_first or sender != held.ring.previous_node:
            reason = "This node holds no such stage any more."
            trouble = StepTrouble(head.instance, head.epoch, head.step, -1, "wrong_epoch", reason)
            self._answer(sender, trouble)
            return
        sent_us = self._switchboard.local_us(sender, head.sent_us)
        if sent_us is not None:
            held.runner.times.hop(monotonic_us() - sent_us)
        held.runner.deliver(head.step, (data,), head.decode_rows)

    def _submit(self, sender: str, message: Submit) -> None:
        first = self._first(message.instance, message.epoch)
        if first is None:
            reason = "The model has just been moved or unloaded. Send the request again."
            self._answer(sender, Ended(message.request_id, "wrong_epoch", reason))
            return
        try:
            first.submit(sender, message)
        except BadFrame as error:
            self._answer(sender, Ended(message.request_id, error.code, str(error)))

    def _credit(self, sender: str, message: Credit) -> None:
        for first in self._firsts(message.instance):
            first.credit(sender, message)

    def _stop(self, sender: str, message: Stop) -> None:
        for first in self._firsts(message.instance):
            first.stop_request(sender, message)

    def _step_done(self, sender: str, message: StepDone) -> None:
        held = self._held.get((message.instance, message.epoch))
        if held is not None and held.first is not None and sender == held.ring.instance.stages[-1].node:
            held.first.step_done(message)

    def _step_trouble(self, sender: str, message: StepTrouble) -> None:
        held = self._held.get((message.instance, message.epoch))
        if held is None or not held.ring.has(sender):
            return
        if held.first is not None:
            held.first.step_trouble(message)
        elif sender == held.ring.next_node:  # told by a node that no longer knows who is first
            self._answer(held.ring.first_node, message)

    def _peer(self, node: str, up: bool) -> None:
        if not up:
            for held in list(self._held.values()):
                if held.first is not None:
                    held.first.peer_lost(node)

    def _first(self, instance: str, epoch: Epoch) -> FirstStage | None:
        held = self._held.get((instance, epoch))
        return None if held is None else held.first

    def _firsts(self, instance: str) -> list[FirstStage]:
        return [held.first for key, held in self._held.items() if key[0] == instance and held.first is not None]

    def _answer(self, to: str, message: object) -> None:
        try:
            self._switchboard.send(to, message)
        except PeerinferError as error:
            if not isinstance(error, LinkDown):
                log.warning("A message to %s could not be sent: %s", to[:8], error)
