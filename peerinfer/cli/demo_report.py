"""What a demo has shown: who held which layers, and how long each hop took, from the nodes' own state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peerinfer.api.replies import JsonObject
from peerinfer.cli.show import names_of, result, table


def hops_of(states: Sequence[JsonObject], model: str) -> JsonObject:
    """`stages`, `hops` and `leader` of `demo --json`. The last hop brings the sampled token back to the first stage.

    A hop's time is the one measured by the stage that it leads to; without one, half of the link's round trip.
    """
    stages = _instance(states[0], model)["stages"]
    half_trips = {
        (link["from"], link["to"]): link["rtt_us"] / 2000
        for state in states
        for link in state["links"]
        if link["rtt_us"] is not None
    }
    hops: list[JsonObject] = []
    for source, goal in zip(stages, (*stages[1:], stages[0]), strict=True):
        if source["node"] != goal["node"]:
            ends = (source["node"], goal["node"])
            measured = goal.get("hop_in_ms")
            ms = half_trips.get(ends, half_trips.get(ends[::-1])) if measured is None else measured
            hops.append({"from": ends[0], "to": ends[1], "ms": None if ms is None else round(ms, 3)})
    return {"stages": stages, "hops": hops, "leader": states[0]["mesh"]["leader"]}


def is_measured(state: JsonObject, model: str) -> bool:
    """Whether every stage has told its time per token."""
    return all(stage.get("ms_per_token") is not None for stage in _instance(state, model)["stages"])


def report(shown: Mapping[str, Any], state: JsonObject) -> None:
    """Prints stages, hops and speed for a person."""
    names = names_of(state)
    rows = [
        (
            names.get(stage["node"], "?"),
            "{}-{}".format(*stage["layers"]),
            stage["engine"],
            _ms(stage.get("ms_per_token")),
            _ms(stage.get("wait_ms")),
        )
        for stage in shown["stages"]
    ]
    result(table(("NODE", "LAYERS", "ENGINE", "PER TOKEN", "WAIT"), rows))
    if shown["hops"]:
        hops = [
            (f"{names.get(hop['from'], '?')} -> {names.get(hop['to'], '?')}", _ms(hop["ms"])) for hop in shown["hops"]
        ]
        result("\n" + table(("HOP", "TIME"), hops))
    result(f"\n{shown['tokens_per_s']:.1f} tokens/s, first token after {shown['ttft_ms']:.0f} ms.")


def _instance(state: JsonObject, model: str) -> JsonObject:
    return next(each for each in state["instances"] if each["model"] == model)


def _ms(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f} ms"
