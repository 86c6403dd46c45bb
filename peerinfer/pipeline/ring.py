"""The ring of an instance seen from one of its stages: who comes before, who after, who is first and last."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.control.state import Instance


@dataclass(frozen=True, slots=True)
class Ring:
    """Stage number `stage` of `instance`."""

    instance: Instance
    stage: int

    @property
    def is_first(self) -> bool:
        """Whether this stage takes token ids and owns the batch."""
        return self.stage == 0

    @property
    def is_last(self) -> bool:
        """Whether this stage samples."""
        return self.stage == len(self.instance.stages) - 1

    @property
    def first_node(self) -> str:
        """Where the batcher lives."""
        return self.instance.stages[0].node

    @property
    def previous_node(self) -> str:
        """The only node that may send this stage frames."""
        return self.instance.stages[max(0, self.stage - 1)].node

    @property
    def next_node(self) -> str:
        """Where this stage's output goes (the last stage's tokens go to the first)."""
        return self.instance.stages[(self.stage + 1) % len(self.instance.stages)].node

    @property
    def layers(self) -> tuple[int, int]:
        """The half-open layer range of this stage."""
        place = self.instance.stages[self.stage]
        return place.first_layer, place.last_layer

    def has(self, node: str) -> bool:
        """Whether `node` runs a stage of this instance."""
        return any(place.node == node for place in self.instance.stages)
