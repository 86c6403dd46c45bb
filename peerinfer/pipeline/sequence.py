"""One request inside the batcher: what has been fed into the ring and what came back."""

from __future__ import annotations

from peerinfer.net.frames import Row
from peerinfer.pipeline.messages import Submit


class Sequence:
    """Prompt, produced tokens and progress of one request."""

    __slots__ = (
        "_sent",
        "admitted",
        "credits",
        "gateway",
        "generation",
        "message",
        "produced",
        "prompt",
        "restarts",
        "slot",
        "starved_since",
    )

    def __init__(self, message: Submit, prompt: tuple[int, ...], gateway: str, now: float) -> None:
        self.message = message
        self.prompt = prompt
        self.gateway = gateway
        self.produced: list[int] = []
        self.credits = message.credits
        self.starved_since: float | None = None
        self.admitted = now
        self.restarts = 0
        self.slot = -1
        self.generation = -1
        self._sent = 0

    def open(self, slot: int, generation: int) -> None:
        """Takes a slot; everything is to be fed (again)."""
        self.slot = slot
        self.generation = generation
        self._sent = 0

    @property
    def unsent(self) -> int:
        """Tokens known but not yet fed into the ring."""
        return len(self.prompt) + len(self.produced) - self._sent

    def take(self, most: int) -> tuple[Row, list[int]]:
        """The next row of at most `most` tokens; its last token is sampled when nothing is left behind it.

        A single token is never left over from a prompt: engines compute one-token rows by other kernels, and the
        last bits of the result would depend on where the prompt was cut.
        """
        count = min(most, self.unsent)
        if most > 2 and self.unsent - count == 1:
            count -= 1
        start = self._sent
        self._sent += count
        known = len(self.prompt)
        tokens = [*self.prompt[start : self._sent], *self.produced[max(0, start - known) : max(0, self._sent - known)]]
        sample = self.unsent == 0
        if sample:
            self.credits -= 1
        return Row(self.slot, self.generation, start, count, sample), tokens

    def sampled(self, token: int) -> None:
        """The ring produced the next token."""
        self.produced.append(token)
