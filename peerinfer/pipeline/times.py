"""Where a stage's time goes: moving averages over its decode steps, for status, placement and the bench."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT = 0.1
"""Weight of the newest step in each average."""


@dataclass(slots=True)
class StageTimes:
    """Averages in milliseconds per step; 0 until something was measured."""

    engine_ms: float = 0.0
    """Inside the engine, per token."""
    sampling_ms: float = 0.0
    child_ms: float = 0.0
    """The rest of the child's own time: orders, checks, encoding."""
    pipe_ms: float = 0.0
    """To the child and back, less the child's time."""
    hop_in_ms: float = 0.0
    """From the sender's stamp to this node's event loop: queue, TLS, wire and wake-up."""
    tokens: int = 0
    """Decode rows run so far."""
    single_ms: float = 0.0
    """Inside the engine, in steps of one token: what a single stream sees."""
    singles: int = 0
    """Steps of one token so far."""

    wait_ms: float = 0.0
    """From a frame's arrival until its answer is handed on, less the engine: other steps, pipe, child, sampling."""

    def step(self, stay_us: int, round_trip_us: int, child_us: tuple[int, int, int], rows: int) -> None:
        """One decode step of `rows` tokens: (whole, engine, sampling) of the child, the whole round trip to it, and the
        whole stay in this stage."""
        whole, engine, sampling = child_us
        self.tokens += rows
        self.engine_ms = _mix(self.engine_ms, engine / rows)
        if rows == 1:
            self.singles += 1
            self.single_ms = _mix(self.single_ms, engine)
        self.sampling_ms = _mix(self.sampling_ms, sampling)
        self.child_ms = _mix(self.child_ms, max(0, whole - engine - sampling))
        self.pipe_ms = _mix(self.pipe_ms, max(0, round_trip_us - whole))
        self.wait_ms = _mix(self.wait_ms, max(0, stay_us - engine))

    def hop(self, microseconds: int) -> None:
        """One frame came in."""
        self.hop_in_ms = _mix(self.hop_in_ms, max(0, microseconds))


def _mix(average_ms: float, newest_us: float) -> float:
    newest_ms = newest_us / 1000
    return newest_ms if average_ms == 0 else average_ms + WEIGHT * (newest_ms - average_ms)
