"""A person sees which streams a rate counts, and which figures are guesses."""

from __future__ import annotations

from typing import Any

from peerinfer.cli.plan_words import marked
from peerinfer.placement.explain_report import report
from peerinfer.placement.explain_text import plan_text
from tests.placement.described import mesh, node, told

NODES = (node("desk", 12, 1000), node("lap", 8, 2000), node("old", 16, 4000))


def lines(policy: str, *guessed: str, **changes: Any) -> list[str]:
    shown = report(told(mesh(*NODES, policy=policy, **changes)))
    return plan_text(marked({**shown, "guessed": [{"node": name, "name": name} for name in guessed]})).splitlines()


def line(found: list[str], start: str) -> str:
    (only,) = [one for one in found if one.strip().startswith(start)]
    return only


def test_each_rate_says_whose_tokens_it_counts() -> None:
    by_latency = lines("latency")
    assert "tokens/s, policy latency, for one stream" in line(by_latency, "Predicted")
    assert line(by_latency, "policy throughput").startswith("  policy throughput, for all streams together: ")
    assert "all streams" not in by_latency[0]
    by_throughput = lines("throughput")
    assert "tokens/s, policy throughput, for all streams together" in line(by_throughput, "Predicted")
    assert line(by_throughput, "policy latency").startswith("  policy latency, for one stream: ")
    assert by_throughput[0].endswith(" Rates are for all streams together.")
    by_spread = lines("spread")
    assert "policy spread, for one stream" in line(by_spread, "Predicted")
    assert "all streams" not in by_spread[0]


def test_what_is_of_the_same_kind_as_the_plan_is_not_marked_again() -> None:
    by_throughput = lines("throughput")
    others = [one for one in by_throughput if one.startswith("  without ")]
    assert others
    assert not any("stream" in one for one in others)


def test_a_forecast_by_guesses_says_so() -> None:
    assert not any("guess" in one for one in lines("latency"))
    found = lines("latency", "desk")
    assert (
        found[1] == "How fast desk would run it was not measured yet: figures with them are guesses by their devices."
    )
    assert line(found, "Predicted").endswith(", by guesses")
    elsewhere = lines("latency", "attic")
    assert elsewhere[1].startswith("How fast attic would run it")
    assert "guess" not in line(elsewhere, "Predicted")
    assert lines("latency", *"abcde")[1].startswith("How fast 5 nodes would run it")


def test_where_there_is_no_plan_speeds_are_no_matter() -> None:
    found = lines("throughput", "desk", model={"layers": 60})
    assert "are short" in found[0]
    assert not any("guess" in one or "stream" in one for one in found)


def test_the_report_itself_stays_as_it_is() -> None:
    shown = report(told(mesh(*NODES, policy="throughput")))
    before = repr(shown)
    assert marked(shown)["policy"] != shown["policy"]
    assert repr(shown) == before
