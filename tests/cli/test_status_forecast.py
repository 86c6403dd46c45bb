"""What `status` says of an instance's speed."""

from __future__ import annotations

from peerinfer.cli.status import forecast_text


def test_a_placement_by_guesses_says_so() -> None:
    guess = {"tokens_per_s": None, "solver": "cp-sat", "why": "They were compared by guesses."}
    assert forecast_text({"predicted": guess}) == "placed by cp-sat. They were compared by guesses."
    known = {"tokens_per_s": 10.0, "solver": "cp-sat", "why": "Nothing new."}
    assert forecast_text({"predicted": known}) == "predicted 10.0 tokens/s, placed by cp-sat"
