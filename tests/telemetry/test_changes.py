"""What is news: noise below the threshold is not, a drift is told step by step, and words are told at once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from peerinfer.telemetry.changes import UTILISATION_STEP, settled
from peerinfer.telemetry.facts import DeviceFacts, Hardware

GB = 10**9
GPU = DeviceFacts("cuda", "A GPU", 24 * GB, 20 * GB, 0, 0.5, 60.0, 180.0, 1500.0)
HARDWARE = Hardware(16 * GB, 8 * GB, (GPU,), False, (), 0, 80.0, False, True, "nominal")

noise = st.floats(-0.99, 0.99)


@given(noise, noise, noise, noise)
def test_noise_is_the_same_object(memory: float, use: float, heat: float, power: float) -> None:
    device = replace(
        GPU, utilisation=0.5 + use * UTILISATION_STEP, temperature_c=60 + heat * 3.9, power_w=180.0 + power * 26
    )
    now = replace(HARDWARE, memory_free_bytes=int(8 * GB + memory * 0.3 * GB), devices=(device,))
    assert settled(HARDWARE, now) is HARDWARE


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_what_is_told_is_never_further_off_than_the_threshold(uses: list[float]) -> None:
    told = HARDWARE
    for use in uses:
        told = settled(told, replace(HARDWARE, devices=(replace(GPU, utilisation=use),)))
        shown = told.devices[0].utilisation
        assert shown is not None
        assert abs(shown - use) < UTILISATION_STEP or shown == use


def test_a_figure_that_trembles_at_an_edge_is_told_once() -> None:
    told, news = HARDWARE, 0
    for step in range(40):
        now = settled(told, replace(HARDWARE, battery_percent=79.0 + (0.4 if step % 2 else -0.4)))
        news += now is not told
        told = now
    assert news == 1


def test_flags_words_and_new_devices_are_news_at_once() -> None:
    for change in (
        {"on_battery": True},
        {"lid_closed": True},
        {"user_active": False},
        {"thermal": "fair"},
        {"troubles": (("gpu", "It is gone."),)},
        {"devices": ()},
        {"devices": (GPU, GPU)},
        {"devices": (replace(GPU, throttled="too hot"),)},
        {"devices": (replace(GPU, utilisation=None),)},
        {"memory_bytes": 8 * GB},
    ):
        now = replace(HARDWARE, **change)
        assert settled(HARDWARE, now) == now
