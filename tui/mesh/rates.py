"""Tokens per second and times to the first token, as they were over the last minutes. Pure.

The rate of an instance comes from the count of tokens that its last stage tells in its snapshots, so it is there for
answers that other nodes asked for, too. A first token's time is told by the gateway of this node alone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from peerinfer.control.state import ClusterState, Speed

SPANS_MAX: Final = 512
"""Spans of one instance that are remembered: four minutes of snapshots that come each half second."""
FIRSTS_MAX: Final = 120
"""Answers whose first token is remembered."""
INSTANCES_MAX: Final = 16
"""Instances whose rates are remembered: the last ones that ran."""
SILENCE_S: Final = 2.5
"""A stage that computes tells so every two seconds; one that says nothing for longer stands still."""


@dataclass(frozen=True, slots=True)
class Span:
    """Between two counts of the same stage."""

    start: float
    end: float
    tokens: int

    @property
    def per_s(self) -> float:
        """Tokens per second."""
        return self.tokens / max(1e-3, self.end - self.start)


@dataclass(slots=True)
class _Counter:
    key: tuple[object, ...]
    """Of the placement: another one begins to count anew."""
    tokens: int
    seen_at: float
    spans: deque[Span]


class Rates:
    """What was measured of each instance over time."""

    def __init__(self) -> None:
        self._counters: dict[str, _Counter] = {}
        self._firsts: deque[tuple[float, Speed]] = deque(maxlen=FIRSTS_MAX)

    def look(self, state: ClusterState, now: float) -> None:
        """Takes the counts of all last stages."""
        for instance in state.instances:
            held = state.held_stage(instance, len(instance.stages) - 1)
            if held is not None:
                self._count(instance.id, (instance.epoch, len(instance.stages)), held.tokens, now)

    def answered(self, speed: Speed, now: float) -> None:
        """An answer of this node's gateway ended."""
        self._firsts.append((now, speed))

    def now(self, instance: str, now: float) -> float:
        """Tokens per second of an instance at the moment; 0 if it stands still."""
        spans = self._spans(instance)
        return spans[-1].per_s if spans and now - spans[-1].end <= SILENCE_S else 0.0

    def series(self, instance: str, now: float, span_s: float, columns: int) -> list[float]:
        """Tokens per second over the last `span_s` seconds, in `columns` equal steps, the newest last."""
        step = span_s / columns
        edges = [now - span_s + step * i for i in range(columns + 1)]
        return [self._mean(instance, start, end) for start, end in pairwise(edges)]

    def first_tokens(self, instance: str, count: int) -> list[float]:
        """Milliseconds to the first token of the last answers, the newest last."""
        return [speed.ttft_ms for _, speed in self._firsts if speed.instance == instance][-count:]

    def _count(self, instance: str, key: tuple[object, ...], tokens: int, now: float) -> None:
        before = self._counters.get(instance)
        if before is None or before.key != key or tokens < before.tokens:
            spans = before.spans if before is not None else deque[Span](maxlen=SPANS_MAX)
            self._counters.pop(instance, None)
            while len(self._counters) >= INSTANCES_MAX:
                del self._counters[next(iter(self._counters))]
            self._counters[instance] = _Counter(key, tokens, now, spans)
        elif tokens > before.tokens:
            start = max(before.seen_at, now - SILENCE_S)
            before.spans.append(Span(start, now, tokens - before.tokens))
            before.tokens, before.seen_at = tokens, now

    def _spans(self, instance: str) -> deque[Span]:
        counter = self._counters.get(instance)
        return counter.spans if counter is not None else deque()

    def _mean(self, instance: str, start: float, end: float) -> float:
        tokens = 0.0
        for span in self._spans(instance):
            shared = min(end, span.end) - max(start, span.start)
            if shared > 0:
                tokens += span.per_s * shared
        return tokens / (end - start)
