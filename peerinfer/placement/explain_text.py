"""The report on a plan as a text for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from peerinfer.placement.explain_words import number
from peerinfer.placement.plan import in_words

Report = Mapping[str, Any]
"""As `explain_report.report` makes it."""


def plan_text(told: Report) -> str:
    """Some lines: the summary, the stages, and why."""
    return "\n".join(_lines(told))


def _lines(told: Report) -> Iterator[str]:
    yield told["summary"]
    if told["infeasible"]:
        yield from _shortage(told["infeasible"])
    else:
        yield ""
        yield from _stages(told["stages"])
        yield ""
        yield from _forecast(told)
    if told["alternatives"]:
        yield ""
        yield "Else it could be:"
        yield from (f"  {_alternative(one)}" for one in told["alternatives"])
    if told["excluded"]:
        yield ""
        yield "Left out:"
        yield from (f"  {one['name']} {one['reason']}." for one in told["excluded"])


def _forecast(told: Report) -> Iterator[str]:
    predicted, solver = told["predicted"], told["solver"]
    if predicted["tokens_per_s"] is None:
        yield "The speed of these nodes was not measured yet."
    else:
        rate = number(predicted["tokens_per_s"])
        yield f"Predicted    {rate} tokens/s{_first_token(predicted)}, policy {told['policy']}"
    if predicted["bottleneck"]:
        yield f"Bottleneck   {predicted['bottleneck']}"
    if told["binding"]:
        yield f"Bound by     {told['binding']['text']}"
    proof = "nothing better is possible by these numbers" if solver["optimal"] else "a good plan, not proven the best"
    proof = f"{proof}. {solver['note']}" if solver["note"] else proof
    yield f"Found by     {solver['name']} in {solver['ms']:.0f} ms: {proof}"


def _first_token(predicted: Report) -> str:
    ttft = predicted["ttft_ms"]
    return "" if ttft is None else f", first token of 512 after {number(ttft / 1000)} s"


def _stages(stages: Sequence[Report]) -> list[str]:
    rows = [("NODE", "LAYERS", "MEMORY", "TIME")]
    for stage in stages:
        first, end = stage["layers"]
        gpu = f" ({stage['accelerated']} on its GPU)" if stage.get("accelerated") else ""
        time = "?" if stage["ms"] is None else f"{number(stage['ms'])} ms"
        rows.append((stage["name"], f"{first}-{end}{gpu}", in_words(stage["memory_bytes"]), time))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _alternative(one: Report) -> str:
    tokens = one["predicted"]["tokens_per_s"]
    over = ", ".join(f"{stage['name']} {stage['layers'][0]}-{stage['layers'][1]}" for stage in one["stages"])
    return f"{one['label']}: {'a speed not known' if tokens is None else f'{number(tokens)} tokens/s'} ({over})"


def _shortage(short: Report) -> Iterator[str]:
    if short["short_bytes"] > max(0, short["needed_bytes"] - short["available_bytes"]):
        yield f"Counted in whole layers, {in_words(short['short_bytes'])} must be added to one node."
    if short["try"]:
        yield ""
        yield "Any of these would do:"
        yield from (f"  {text}" for text in short["try"])
