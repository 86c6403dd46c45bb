"""What `status` says of an instance's speed."""

from __future__ import annotations

from typing import Any

from peerinfer.cli.status import forecast_text, instance_labels


def test_a_placement_by_guesses_says_so() -> None:
    guess = {"tokens_per_s": None, "solver": "cp-sat", "why": "They were compared by guesses."}
    assert forecast_text({"predicted": guess}) == "placed by cp-sat. They were compared by guesses."
    known = {"tokens_per_s": 10.0, "solver": "cp-sat", "why": "Nothing new."}
    assert forecast_text({"predicted": known}) == "predicted 10.0 tokens/s, placed by cp-sat"


def test_each_speed_has_its_unit() -> None:
    told = {"predicted": {"tokens_per_s": 100.0}, "measured": {"tokens_per_s": 113.9}, "error": 0.139}
    assert forecast_text(told) == "predicted 100.0 tokens/s, measured 113.9 tokens/s (+14%)"


def placed(model: str, state: str, *stages: tuple[str, int, int]) -> dict[str, Any]:
    return {
        "model": model,
        "state": state,
        "stages": [{"node": node, "layers": [first, end]} for node, first, end in stages],
    }


def test_several_placements_of_one_model_are_told_apart() -> None:
    names = {"a": "attic", "b": "bed"}
    same = [placed("m", "draining", ("a", 0, 10), ("b", 10, 30)), placed("m", "ready", ("b", 0, 30))]
    other = placed("other", "ready", ("a", 0, 10))
    assert instance_labels([*same, other], names) == [
        "m (draining on attic 0-10, bed 10-30)",
        "m (ready on bed 0-30)",
        "other",
    ]
    assert instance_labels([placed("m", "failed"), same[1]], names)[0] == "m (failed)"
