"""The lines of the graph: hops of a ring with their direction, and links between neighbouring cards. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from peerinfer.control.state import ClusterLink
from tui.mesh.hops import Hop, hops_of
from tui.mesh.people import is_lost
from tui.picture.canvas import Canvas, Point, Role
from tui.picture.layout import ROW_GAP, Place
from tui.picture.subject import Look
from tui.words import bandwidth, milliseconds, round_trip

LABEL_WIDTH: Final = 8
REACH_MAX: Final = 24
"""Columns between two cards of a row that a line may cross: over more there is another card."""
Links = Mapping[tuple[str, str], ClusterLink]


@dataclass(frozen=True, slots=True)
class Way:
    """A line between two cards."""

    start: str
    end: str
    upper: str
    """The time on the wire, or the round trip."""
    lower: str
    """The bandwidth."""
    role: Role
    tips: tuple[str, ...] = ()
    """The nodes at which it has an arrow."""
    bends: bool = True
    """Whether it may turn corners to come to a card in another row; links that only fill gaps beside a ring do not."""


def ways_of(look: Look, order: Sequence[str]) -> list[Way]:
    """What is drawn between the cards that stand in `order`; the ring last, over all else."""
    links = {link.ends: link for link in look.state.links}
    ring = _ring(look, links)
    taken = {frozenset((way.start, way.end)) for way in ring}
    ways: list[Way] = []
    for start, end in pairwise((*order, order[0])):
        link = _link(links, start, end)
        if link is not None and frozenset((start, end)) not in taken:
            taken.add(frozenset((start, end)))
            ways.append(Way(start, end, _rtt(link), _rate(link), Role.FAINT, bends=not ring))
    return [*ways, *ring]


def draw_way(canvas: Canvas, way: Way, places: Mapping[str, Place]) -> None:
    """Draws a line with its labels, as far as there is room for it between the cards."""
    start, end = places.get(way.start), places.get(way.end)
    if start is None or end is None:
        return
    if start.y == end.y:
        _beside(canvas, way, start, end)
    elif abs(start.y - end.y) == start.height + ROW_GAP and (way.bends or _is_over(start, end)):
        _between_rows(canvas, way, start, end, list(places.values()))


def _ring(look: Look, links: Links) -> list[Way]:
    """One line for each hop; for two stages one line there and back."""
    hops = hops_of(look.instance, look.state) if look.instance is not None else ()
    if len(hops) < 2:
        return []
    ways = [_hop(look, before, hop, links) for before, hop in pairwise((*hops, hops[0]))]
    return ways if len(ways) > 2 else [replace(ways[0], tips=(ways[0].start, ways[0].end))]


def _hop(look: Look, before: Hop, hop: Hop, links: Links) -> Way:
    start, end = before.place.node, hop.place.node
    link = _link(links, start, end)
    rtt, rate = (_rtt(link), _rate(link)) if link is not None else ("", "")
    wire = milliseconds(hop.wire_ms) if hop.wire_ms > 0 else rtt
    return Way(start, end, wire, rate, _role(look, start, end), (end,))


def _role(look: Look, start: str, end: str) -> Role:
    if is_lost(start, look.state) or is_lost(end, look.state):
        return Role.BAD
    return Role.ACTIVE if look.is_active else Role.ACCENT


def _link(links: Links, start: str, end: str) -> ClusterLink | None:
    return links.get((start, end)) or links.get((end, start))


def _rtt(link: ClusterLink) -> str:
    return round_trip(link.rtt_us) if link.rtt_us is not None else ""


def _rate(link: ClusterLink) -> str:
    return bandwidth(link.bandwidth_bytes_per_s) if link.bandwidth_bytes_per_s else ""


def _beside(canvas: Canvas, way: Way, start: Place, end: Place) -> None:
    """A straight line between neighbours in a row."""
    left, right = (start, end) if start.x < end.x else (end, start)
    ends = {start: way.start, end: way.end}
    if right.x - left.right > REACH_MAX:
        return
    y = left.middle[1]
    canvas.line([(left.right, y), (right.x - 1, y)], way.role)
    if ends[right] in way.tips:
        canvas.text(right.x - 1, y, "▶", way.role)
    if ends[left] in way.tips:
        canvas.text(left.right, y, "◀", way.role)
    middle = (left.right + right.x) // 2
    canvas.text(middle - len(way.upper) // 2, y - 1, way.upper, way.role)
    canvas.text(middle - len(way.lower) // 2, y + 1, way.lower, Role.FAINT)


def _is_over(start: Place, end: Place) -> bool:
    """Whether one stands over the other, so that a straight line joins them."""
    upper, lower = (start, end) if start.y < end.y else (end, start)
    return lower.x <= upper.middle[0] < lower.right


def _between_rows(canvas: Canvas, way: Way, start: Place, end: Place, cards: Sequence[Place]) -> None:
    """Straight down, into the side of the lower card, or through the gap where another card is in the way."""
    upper, lower = (start, end) if start.y < end.y else (end, start)
    ends = {start: way.start, end: way.end}
    x, top = upper.middle[0], upper.bottom
    label = (x + 2, top)
    if _is_over(start, end):
        points: list[Point] = [(x, top), (x, lower.y - 1)]
        tips = {upper: (x, top, "▲"), lower: (x, lower.y - 1, "▼")}
    elif _is_free(x, lower, cards):
        y, is_left = lower.middle[1], x < lower.x
        side = lower.x - 1 if is_left else lower.right
        points = [(x, top), (x, y), (side, y)]
        tips = {upper: (x, top, "▲"), lower: (side, y, "▶" if is_left else "◀")}
    else:
        to = lower.middle[0]
        points = [(x, top), (to, top), (to, lower.y - 1)]
        tips = {upper: (x, top, "▲"), lower: (to, lower.y - 1, "▼")}
        label = (x + 2, top + 1)
    canvas.line(points, way.role)
    for card, node in ends.items():
        if node in way.tips:
            column, row, sign = tips[card]
            canvas.text(column, row, sign, way.role)
    after = canvas.text(*label, way.upper, way.role, LABEL_WIDTH)
    below = (label[0], label[1] + 1) if label[1] == top else (after + 1, label[1])
    canvas.text(*below, way.lower, Role.FAINT, LABEL_WIDTH)


def _is_free(x: int, lower: Place, cards: Sequence[Place]) -> bool:
    """Whether no card stands between column `x` and the lower card in its row."""
    left, right = (x, lower.x) if x < lower.x else (lower.right, x)
    return all(card.y != lower.y or card is lower or card.right <= left or card.x > right for card in cards)
