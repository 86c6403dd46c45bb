"""Instances come from any member: what no honest leader places is refused as soon as it is decoded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control.messages import Ballot, Instances
from peerinfer.control.state import Forecast, Instance, InstanceState, StagePlace
from peerinfer.engine.base import Sampling
from peerinfer.errors import BadFrame
from peerinfer.net.frames import Epoch
from peerinfer.net.messages import decode, encode

SOUND = Instance(
    id="ab" * 16,
    model="m",
    digest="d",
    epoch=Epoch(1, "cd" * 16, 1),
    state=InstanceState.READY,
    stages=(StagePlace("n", "llama.cpp", 0, 3),),
    context=512,
    slots=2,
)


def test_a_sound_list_survives_the_wire() -> None:
    told = Instances(Ballot(1, "n"), 1, (SOUND,))
    assert decode(encode(told)) == told


@pytest.mark.parametrize(
    "change",
    [
        {"slots": 2**40},
        {"slots": 0},
        {"context": -3},
        {"stages": ()},
        {"stages": (StagePlace("n", "e", 3, 3),)},
        {"epoch": Epoch(-5, "cd" * 16, 1)},
        {"forecast": Forecast(tokens_per_s=-1.0)},
        {"forecast": Forecast(ttft_ms=float("inf"))},
        {"forecast": Forecast(why="w" * 5000)},
    ],
)
def test_impossible_instances_are_refused(change: dict[str, object]) -> None:
    data = encode(Instances(Ballot(1, "n"), 1, (_forged(change),)))
    with pytest.raises(BadFrame, match="impossible"):
        decode(data)
    with pytest.raises(ValueError, match="impossible"):
        replace(SOUND, **change)  # pyright: ignore[reportArgumentType] - the point is that it does not fit


def test_sampling_that_no_sampler_can_do_is_refused() -> None:
    wrong = (
        lambda: Sampling(min_p=2.0),
        lambda: Sampling(temperature=float("nan")),
        lambda: Sampling(repetition_penalty=0.0),
        lambda: Sampling(top_p=-1.0),
    )
    for make in wrong:
        with pytest.raises(ValueError, match="sampling"):
            make()


def _forged(change: dict[str, object]) -> Instance:
    """What a faulty peer sends: made without the checks."""
    forged = replace(SOUND)
    for name, value in change.items():
        object.__setattr__(forged, name, value)
    return forged
