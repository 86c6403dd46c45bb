"""Sleep and stalls, by two clocks that the test moves."""

from __future__ import annotations

import pytest

from peerinfer.control.stall import ASLEEP_S, LATE_S, StallDetector


@pytest.mark.parametrize(
    ("passed_s", "asleep_s", "missed_s"),
    [
        (0.25, 0.0, 0.0),
        (0.25 + LATE_S, 0.0, 0.0),
        (60.25, 0.0, 60.0),
        (0.25, ASLEEP_S, 0.0),
        (0.25, 3600.0, 3600.0),
        (3.25, 5.0, 8.0),
        (0.25, -5.0, 0.0),
    ],
)
def test_what_was_missed_is_lateness_and_sleep(passed_s: float, asleep_s: float, missed_s: float) -> None:
    detector = StallDetector(0.25, 100.0, 500.0)
    assert detector.look(100.0 + passed_s, 500.0 + passed_s + asleep_s) == pytest.approx(missed_s)
    assert detector.look(100.25 + passed_s, 500.25 + passed_s + asleep_s) == 0.0, "it is told once"
