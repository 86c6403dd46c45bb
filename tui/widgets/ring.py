"""The ring of the chosen placement: its speed over time, the strip of layers, the times of each hop."""

from __future__ import annotations

from typing import Final

from peerinfer.control.state import ClusterState, Instance
from tui.mesh.rates import Rates
from tui.picture.canvas import Role, Runs, width_of, wrapped
from tui.picture.chart import chart
from tui.picture.ring import headline, reason, strip, table
from tui.widgets.picture import Picture
from tui.words import milliseconds, rate

NOTHING: Final = "No model is loaded: F3 shows the models and loads one. i invites another machine, j joins one."
SPAN_S: Final = 120.0
"""How far back the chart goes."""
CHART_COLUMNS: Final = 60
FIRSTS_COLUMNS: Final = 24


class RingPanel(Picture):
    """What there is to say of one placement."""

    def look(self, state: ClusterState, instance: Instance | None, rates: Rates, now: float, *, tall: bool) -> None:
        """Draws it anew."""
        if instance is None:
            self.show(wrapped([(NOTHING, Role.FAINT)], max(8, self.size.width)))
            return
        width = max(8, self.size.width)
        rows = [*wrapped(headline(instance, state, rates.now(instance.id, now)), width), *_reason(instance, width)]
        figures = _charts(instance, rates, now, width, 3 if tall else 1)
        self.show([*rows, *figures, *strip(instance, state, width), *table(instance, state, width)])


def _reason(instance: Instance, width: int) -> list[Runs]:
    """The reason that its leader gives, if there is one."""
    return wrapped(reason(instance), width) if instance.reason else []


def _charts(instance: Instance, rates: Rates, now: float, width: int, height: int) -> list[Runs]:
    """Tokens per second of the last minutes, and the times to the first token of the last answers, side by side."""
    columns = max(4, min(CHART_COLUMNS, width // 2 - 14))
    values = rates.series(instance.id, now, SPAN_S, columns)
    firsts = rates.first_tokens(instance.id, max(4, min(FIRSTS_COLUMNS, width - columns - 36)))
    if not any(values) and not firsts:
        return []
    left = chart(values, height, Role.ACTIVE)
    right = chart(firsts, height, Role.FIRST)
    rows = [[*runs, ("  ", Role.PLAIN), *other] for runs, other in zip(left, right, strict=True)]
    rows[-1] += [(f"  {_legend(values, firsts)}", Role.FAINT)] if width_of(rows[-1]) + 34 <= width else []
    return rows


def _legend(values: list[float], firsts: list[float]) -> str:
    parts = [f"tokens/s, top {rate(max(values))}"] if any(values) else []
    parts += [f"first token, top {milliseconds(max(firsts))}"] if firsts else []
    return "; ".join(parts)
