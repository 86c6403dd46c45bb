"""The first stage's door: carries out what its batcher decides, with frames into its own stage."""

from __future__ import annotations

import array
import contextlib
import sys

from peerinfer.clock import Clock, monotonic_us
from peerinfer.engine.orders import encode_orders
from peerinfer.errors import BadFrame, LinkDown
from peerinfer.net.frames import StepFrame, encode_head
from peerinfer.pipeline.batcher import Batcher
from peerinfer.pipeline.effects import Effect, EndRequest, RunStep
from peerinfer.pipeline.messages import Credit, Ended, StepDone, StepTrouble, Stop, Submit
from peerinfer.pipeline.ring import Ring
from peerinfer.pipeline.stage import Post, StageRunner


class FirstStage:
    """Batcher and stage 0 of one instance."""

    def __init__(self, ring: Ring, runner: StageRunner, post: Post, clock: Clock) -> None:
        self._ring = ring
        self._runner = runner
        self._post = post
        self._clock = clock
        instance = ring.instance
        self.batcher = Batcher(instance.slots, instance.context, len(instance.stages))

    def submit(self, sender: str, message: Submit) -> None:
        """A gateway's request."""
        self._do(self.batcher.submit(message, token_ids(message.prompt), sender, self._clock()))

    def credit(self, sender: str, message: Credit) -> None:
        """A gateway can take more."""
        self._do(self.batcher.credit(message, sender, self._clock()))

    def stop_request(self, sender: str, message: Stop) -> None:
        """A gateway wants no more."""
        self._do(self.batcher.stop(message, sender, self._clock()))

    def step_done(self, message: StepDone) -> None:
        """The last stage's results."""
        self._do(self.batcher.step_done(message, self._clock()))

    def step_trouble(self, message: StepTrouble) -> None:
        """Any stage's failure."""
        self._do(self.batcher.step_trouble(message, self._clock()))

    def peer_lost(self, node: str) -> None:
        """The link to a node is down: it may have been a gateway, a stage, or both."""
        now = self._clock()
        self._do(self.batcher.gateway_lost(node, now))
        if self._ring.has(node):
            reason = "A machine that runs part of this model was lost. Send the request again."
            self._do(self.batcher.fail_all("stage_lost", reason, now))

    def tick(self) -> None:
        """Time passes."""
        self._do(self.batcher.tick(self._clock()))

    def close(self, code: str, reason: str) -> None:
        """The instance ends here."""
        self._do(self.batcher.close(code, reason))

    def _do(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, RunStep):
                self._run(effect)
            else:
                self._end(effect)

    def _run(self, effect: RunStep) -> None:
        instance = self._ring.instance
        frame = StepFrame(
            instance=bytes.fromhex(instance.id),
            epoch=instance.epoch,
            step=effect.step,
            rows=effect.rows,
            width=0,
            payload=id_bytes(effect.tokens),
            orders=encode_orders(effect.orders),
            sent_us=monotonic_us(),
        )
        decode_rows = len(effect.rows) if len(effect.rows) == len(effect.tokens) else 0
        self._runner.deliver(effect.step, (encode_head(frame), frame.payload), decode_rows)

    def _end(self, effect: EndRequest) -> None:
        with contextlib.suppress(LinkDown):  # a gateway that cannot be told has lost the answer with its link already
            self._post.send(effect.gateway, Ended(effect.request_id, effect.code, effect.reason))


def id_bytes(ids: tuple[int, ...]) -> bytes:
    """Token ids as int32, little-endian."""
    values = array.array("i", ids)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def token_ids(data: bytes) -> tuple[int, ...]:
    """The ids in `id_bytes`' form. Raises `BadFrame`."""
    if len(data) % 4:
        raise BadFrame("Token ids must be 4 bytes each.")
    values = array.array("i", data)
    if sys.byteorder == "big":
        values.byteswap()
    return tuple(values)
