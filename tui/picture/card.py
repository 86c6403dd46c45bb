"""One node as a card: what it is, how it stands, what it computes, how its devices do. Pure."""

from __future__ import annotations

from typing import Final

from peerinfer.control.state import ClusterLink, Device, NodeReport
from tui.mesh.hops import Standing
from tui.picture.canvas import Canvas, Role, Run, Runs, bar, width_of
from tui.picture.subject import STATE_SIGNS, Subject
from tui.picture.work import work
from tui.words import bandwidth, harmless, name_of, of_size, percent, round_trip

LEADER_SIGN: Final = "★"
HOT_C: Final = 85.0
"""From here on processors and GPUs begin to slow down."""
BAR_MAX: Final = 16
SHORT_BELOW: Final = 4
"""Lines from which bars are drawn though not all fits; in fewer the figures stand in one line."""


def title(subject: Subject, width: int) -> Runs:
    """State, name, leadership: what stands in the upper border."""
    sign, role = STATE_SIGNS[subject.standing]
    ballot = subject.state.ballot
    mark = f" {LEADER_SIGN}{ballot.counter if ballot is not None else ''}" if subject.is_leader else ""
    own = " (here)" if subject.member.id == subject.state.node and width >= 26 else ""
    name = name_of(subject.member.name, subject.member.id)
    room = width - 2 - len(mark) - len(own)
    canvas = Canvas(room, 1)
    canvas.text(0, 0, name, width=room)
    shown = "".join(text for text, _ in canvas.rows()[0]).rstrip()
    return [(f"{sign} ", role), (shown, Role.STRONG), (own, Role.FAINT), (mark, Role.ACCENT)]


def body(subject: Subject, width: int, height: int) -> list[Runs]:
    """The lines inside the frame: as much as fits, what matters most first."""
    report = subject.member.report
    first = work(subject, width)
    if report is None:
        return [first, [("tells nothing yet", Role.FAINT)]][:height]
    whole = [first, *_full(report, subject, width)]
    if height < min(SHORT_BELOW, len(whole)):
        return [first, _short(report, width)][:height]
    return whole[:height]


def height_of(subject: Subject) -> int:
    """Rows of a card that tells all, its frame included."""
    report = subject.member.report
    return 3 + (1 if report is None else len(_full(report, subject, BAR_MAX)))


def _full(report: NodeReport, subject: Subject, width: int) -> list[Runs]:
    notes = _notes(report)
    devices = [device_runs(device, width) for device in report.devices]
    return [_memory(report, width), *devices, *([notes] if notes else []), *_link(subject)]


def frame_role(subject: Subject, *, is_chosen: bool) -> Role:
    """How the frame is drawn."""
    if is_chosen:
        return Role.CHOSEN
    return Role.PLAIN if subject.standing is Standing.ALIVE else STATE_SIGNS[subject.standing][1]


def draw(canvas: Canvas, at: tuple[int, int], size: tuple[int, int], subject: Subject, *, is_chosen: bool) -> None:
    """Draws a card with its frame; `size` is width and height in cells, at least 8 × 3."""
    (x, y), (width, height) = at, size
    canvas.box(x, y, width, height, frame_role(subject, is_chosen=is_chosen), heavy=is_chosen)
    head = title(subject, width - 4)
    canvas.runs(x + 1, y, [(" ", Role.PLAIN), *head, (" ", Role.PLAIN)], width - 2)
    for row, runs in enumerate(body(subject, width - 4, height - 2)):
        canvas.runs(x + 2, y + 1 + row, runs, width - 4)


def _memory(report: NodeReport, width: int) -> Runs:
    used = max(0, report.memory_bytes - report.memory_free_bytes)
    share = used / report.memory_bytes if report.memory_bytes else None
    tail: Runs = [(f" {of_size(used, report.memory_bytes)}", Role.PLAIN)]
    return _barred("mem", share, tail, width)


def device_runs(device: Device, width: int) -> Runs:
    """Load, memory of its own, temperature, power: what it tells."""
    tail: Runs = [] if device.utilisation is None else [(f" {percent(device.utilisation)}", Role.PLAIN)]
    if device.temperature_c is not None:
        tail.append((f" {device.temperature_c:.0f}°C", _heat_role(device.temperature_c)))
    if device.power_w is not None:
        tail.append((f" {device.power_w:.0f}W", Role.PLAIN))
    if device.memory_bytes:
        used = max(0, device.memory_bytes - device.memory_free_bytes)
        tail.append((f" {of_size(used, device.memory_bytes)}", Role.PLAIN))
    if device.throttled:
        tail.append((" slowed", Role.WARNING))
    if device.utilisation is None and not tail:
        return [(f"{label(device)} ", Role.PLAIN), (harmless(device.name), Role.FAINT)]
    return _barred(label(device), device.utilisation, tail, width)


def label(device: Device) -> str:
    """A word for a device: `cpu`, `gpu`."""
    return "cpu" if device.kind == "cpu" else "gpu"


def _barred(word: str, share: float | None, tail: Runs, width: int) -> Runs:
    room = min(BAR_MAX, width - len(word) - 1 - width_of(tail))
    drawn = bar(share, room, _load_role(share)) if room >= 3 else []
    return [(f"{word} ", Role.FAINT), *drawn, *(tail if drawn else [(tail[0][0].lstrip(), tail[0][1]), *tail[1:]])]


def _heat_role(celsius: float) -> Role:
    return Role.WARNING if celsius >= HOT_C else Role.PLAIN


def _load_role(share: float | None) -> Role:
    if share is None or share < 0.75:
        return Role.GOOD
    return Role.WARNING if share < 0.92 else Role.BAD


def _short(report: NodeReport, width: int) -> Runs:
    """Memory, battery, the busiest device and its heat, for a small card: as many as fit."""
    used = 1 - report.memory_free_bytes / report.memory_bytes if report.memory_bytes else 0.0
    groups: list[Runs] = [[("mem ", Role.FAINT), (f"{used:.0%}", Role.PLAIN)]]
    if report.on_battery:
        charge = f" {report.battery_percent:.0f}%" if report.battery_percent is not None else ""
        groups.append([(f" bat{charge}", Role.WARNING)])
    busiest = max(report.devices, key=lambda device: device.utilisation or 0.0, default=None)
    if busiest is not None and busiest.utilisation is not None:
        groups.append([(f" {label(busiest)} ", Role.FAINT), (f"{busiest.utilisation:.0%}", Role.PLAIN)])
    if busiest is not None and busiest.temperature_c is not None:
        groups.append([(f" {busiest.temperature_c:.0f}°", _heat_role(busiest.temperature_c))])
    shown: Runs = []
    for group in groups:
        if width_of(shown) + width_of(group) <= width:
            shown += group
    return shown


def _notes(report: NodeReport) -> Runs:
    """Battery, lid, its owner: only what is out of the ordinary, and the charge."""
    notes: list[Run] = []
    if report.on_battery:
        charge = f" {report.battery_percent:.0f} %" if report.battery_percent is not None else ""
        notes.append((f"battery{charge}", Role.WARNING))
    elif report.battery_percent is not None:
        notes.append((f"charging {report.battery_percent:.0f} %", Role.FAINT))
    notes += [("lid closed", Role.WARNING)] if report.lid_closed else []
    notes += [("user at work", Role.FAINT)] if report.user_active else []
    notes += [(f"heat {harmless(report.thermal)}", Role.WARNING)] if report.thermal in {"serious", "critical"} else []
    notes += [("kept out", Role.WARNING)] if report.policy.exclude else []
    notes += [("kept light", Role.FAINT)] if report.policy.keep_light else []
    notes += [(f"{harmless(probe)} fails", Role.WARNING) for probe, _ in report.troubles[:2]]
    return [run for note in notes for run in ((" · ", Role.FAINT), note)][1:]


def _own_link(subject: Subject) -> ClusterLink | None:
    """The link of this node to the one that is drawn."""
    ends = (subject.state.node, subject.member.id)
    return next((link for link in subject.state.links if link.ends == ends), None)


def _link(subject: Subject) -> list[Runs]:
    link = _own_link(subject)
    return [[("link ", Role.FAINT), (link_words(link), Role.PLAIN)]] if link is not None else []


def link_words(link: ClusterLink) -> str:
    """Round trip and bandwidth of a link, as far as they were measured."""
    rtt = round_trip(link.rtt_us) if link.rtt_us is not None else "not measured"
    rate = f" {bandwidth(link.bandwidth_bytes_per_s)}" if link.bandwidth_bytes_per_s else ""
    return f"{rtt}{rate}{' (old)' if rate and link.is_stale else ''}"
