"""The bench's arithmetic: which way a ratio points, and that the parts of a token's time add up to all of it."""

from __future__ import annotations

import pytest
from bench_mesh import Answered
from bench_report import Row, parts_of

FIRST = {"engine_ms": 4.0, "sampling_ms": 0.0, "child_ms": 0.1, "pipe_ms": 0.2, "hop_in_ms": 0.0}
LAST = {"engine_ms": 5.0, "sampling_ms": 0.05, "child_ms": 0.1, "pipe_ms": 0.3, "hop_in_ms": 0.4}


@pytest.mark.parametrize(("faster_is", "ratio"), [("higher", 0.5), ("lower", 2.0)])
def test_a_ratio_above_one_says_that_peerinfer_is_faster(faster_is: str, ratio: float) -> None:
    row = Row("unit", faster_is)
    for theirs in (2.0, 4.0, 6.0):
        row.add(theirs / 2, theirs)
    summary = row.summary()
    assert summary["peerinfer"] == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert summary["ratio"] == {"median": ratio, "min": ratio, "max": ratio}


def test_an_answers_times_leave_its_first_token_out() -> None:
    answered = Answered([1], [5, 6, 7], 100.0, asked=1.0, arrivals=[1.5, 1.51, 1.52], ended=1.52)
    assert answered.first_ms == pytest.approx(500)
    assert answered.ms_per_token == pytest.approx(10)


def test_the_parts_of_a_token_add_up() -> None:
    answered = Answered([1], [5, 6, 7], 1000 / 9.9, asked=1.0, arrivals=[1.5, 1.51, 1.52], ended=1.52)
    parts = parts_of(answered, [FIRST, LAST], callback_ms=0.4)
    assert parts["graph callback"] == pytest.approx(0.2)
    assert parts["engine"] == pytest.approx(8.8)
    assert parts["streaming"] == pytest.approx(0.1)
    assert sum(value for name, value in parts.items() if name != "all") == pytest.approx(parts["all"])


def test_a_callback_that_noise_made_faster_than_none_counts_as_nothing() -> None:
    answered = Answered([1], [5, 6], 100.0, asked=1.0, arrivals=[1.5, 1.51], ended=1.51)
    assert parts_of(answered, [FIRST, LAST], callback_ms=-0.4)["graph callback"] == 0
