"""All that the terminal shows of the mesh, folded from what the daemon tells. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from peerinfer.control.apply import apply
from peerinfer.control.events import ClusterEvent, SpeedMeasured
from peerinfer.control.state import ClusterState
from tui.mesh.lines import Line, TimedLine
from tui.mesh.rates import Rates
from tui.mesh.story import Story
from tui.words import SHORT_ID, harmless

LINES_MAX: Final = 500
"""Lines of the event log: an evening of comings and goings."""


class MeshView:
    """Folds a state and the events that follow it, as the daemon does, and what they mean for people.

    Times are seconds: `now` of a clock that never goes back, `wall` since 1970.
    """

    def __init__(self) -> None:
        self.state: ClusterState | None = None
        """None until a daemon told."""
        self.rates = Rates()
        self.lines: deque[TimedLine] = deque(maxlen=LINES_MAX)
        self.told = 0
        """Lines told so far: more than are kept."""
        self._story = Story()

    def take(self, news: ClusterState | ClusterEvent, now: float, wall: float) -> None:
        """Folds what the daemon said."""
        if isinstance(news, ClusterState):
            self._begin(news, now, wall)
        elif self.state is not None:
            before = self.state
            self.state = apply(before, news)
            if isinstance(news, SpeedMeasured):
                self.rates.answered(news.speed, now)
            for line in self._story.tell(before, news, self.state, now):
                self.say(line, wall)
        if self.state is not None:
            self.rates.look(self.state, now)

    def say(self, line: Line, wall: float) -> None:
        """Adds a line to the event log."""
        self.lines.append(TimedLine(wall, line))
        self.told += 1

    def _begin(self, state: ClusterState, now: float, wall: float) -> None:
        """A new connection begins with the whole state; another mesh, or another node id, is another story."""
        known = self.state
        is_first = known is None or (known.mesh, known.node) != (state.mesh, state.node)
        self.state = state
        for line in self._story.begin(state, now, is_first=is_first):
            self.say(line, wall)
        if known is not None and known.mesh != state.mesh:
            self.say(Line(f"This machine is in the mesh {harmless(state.mesh)[:SHORT_ID]} now."), wall)
