"""What a person must be told of the figures of a plan: which streams a rate counts, and what is a guess. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from peerinfer.placement.plan import in_list

Report = Mapping[str, Any]
"""As `placement.explain_report.report` makes it; a live mesh adds `guessed`."""

ONE: Final = "for one stream"
ALL: Final = "for all streams together"
NAMED_MAX: Final = 4
"""Nodes that are named in a sentence; more are counted."""


def marked(told: Report) -> dict[str, Any]:
    """The same report with these words in its summary, its policy and the labels of its alternatives."""
    shown = dict(told)
    guessed: Sequence[Report] = [] if told["infeasible"] else told.get("guessed", [])
    used = {stage["node"] for stage in told["stages"]}
    is_guess = any(one["node"] in used for one in guessed)
    shown["summary"] = "\n".join((_summary(told), *_guesses(guessed)))
    shown["policy"] = f"{told['policy']}, {_streams(told['policy'])}{', by guesses' if is_guess else ''}"
    shown["alternatives"] = [{**one, "label": _label(one, told["policy"])} for one in told["alternatives"]]
    return shown


def _streams(policy: str) -> str:
    """Whose tokens a predicted rate counts: with every stage busy those of all, else of one that has all for itself."""
    return ALL if policy == "throughput" else ONE


def _summary(told: Report) -> str:
    is_of_all = told["policy"] == "throughput" and "tokens/s" in told["summary"]
    return f"{told['summary']} Rates are {ALL}." if is_of_all else told["summary"]


def _label(alternative: Report, policy: str) -> str:
    label: str = alternative["label"]
    return label if alternative["policy"] == policy else f"{label}, {_streams(alternative['policy'])}"


def _guesses(guessed: Sequence[Report]) -> tuple[str, ...]:
    if not guessed:
        return ()
    names = [one["name"] or one["node"] for one in guessed]
    who = in_list(names) if len(names) <= NAMED_MAX else f"{len(names)} nodes"
    return (f"How fast {who} would run it was not measured yet: figures with them are guesses by their devices.",)
