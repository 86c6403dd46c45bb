"""Account of what is lost where weights are rounded anew."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Loss:
    """What was lost, over all weights that were counted."""

    error: float = 0.0
    """Sum of squares of what weights are off."""
    total: float = 0.0
    """Sum of squares of weights."""

    @property
    def relative(self) -> float:
        """Root of the mean square of the error, as a share of that of the weights."""
        return (self.error / self.total) ** 0.5 if self.total else 0.0

    def add(self, other: Loss) -> None:
        """Counts others in."""
        self.error += other.error
        self.total += other.total
