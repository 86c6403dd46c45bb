"""Control messages that are not as they should be: refused, whatever they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peerinfer.control.messages import (
    HELD_MAX,
    STATEMENTS_MAX,
    Ballot,
    HeldPart,
    Instances,
    Intents,
    LoadStage,
    StagesHeld,
)
from peerinfer.control.state import INSTANCES_MAX, MEMBERS_MAX, Instance, InstanceState, StagePlace
from peerinfer.errors import BadFrame
from peerinfer.net.frames import Epoch
from peerinfer.net.messages import decode, encode

EPOCH = Epoch(3, "ab", 1)
BALLOT = Ballot(3, "ab")
INSTANCE = Instance(
    id="id",
    model="tiny",
    digest="dd",
    epoch=EPOCH,
    state=InstanceState.LOADING,
    stages=(StagePlace("n1", "llama.cpp", 0, 2), StagePlace("n2", "mlx", 2, 5)),
    context=4096,
    slots=4,
)


def test_an_instance_in_an_unknown_state_is_refused() -> None:
    data = encode(Instances(BALLOT, 9, (INSTANCE,))).replace(b"loading", b"floatin")
    with pytest.raises(BadFrame):
        decode(data)


def test_a_list_of_too_many_or_of_one_twice_is_refused() -> None:
    many = tuple(replace(INSTANCE, epoch=replace(EPOCH, n=n)) for n in range(INSTANCES_MAX + 1))
    for instances, asking in ((many, ()), ((INSTANCE, INSTANCE), ()), ((), ("n",) * (MEMBERS_MAX + 1))):
        with pytest.raises(ValueError, match=r"too many|twice"):
            Instances(BALLOT, 1, instances, asking)
    assert len(Instances(BALLOT, 1, many[:-1]).instances) == INSTANCES_MAX


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "i" * 65},
        {"digest": "d" * 65},
        {"model": "m" * 129},
        {"reason": "r" * 1001},
        {"model": "a\x1b[31m"},
        {"reason": "two\nlines"},
        {"stages": (StagePlace("n" * 65, "llama.cpp", 0, 1),)},
        {"stages": (StagePlace("n", "e" * 129, 0, 1),)},
    ],
)
def test_an_instance_with_words_that_cannot_be_shown_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"words"):
        replace(INSTANCE, **changes)


def test_too_much_in_one_message_is_refused() -> None:
    part = HeldPart(INSTANCE, 0, "ready")
    with pytest.raises(ValueError, match="too many stages"):
        StagesHeld(BALLOT, (part,) * (HELD_MAX + 1))
    with pytest.raises(ValueError, match="too many intents"):
        Intents((b"",) * (STATEMENTS_MAX + 1))


def test_a_message_that_is_cut_short_is_refused() -> None:
    data = encode(LoadStage(BALLOT, 9, INSTANCE, 1))
    for length in range(len(data)):
        with pytest.raises(BadFrame):
            decode(data[:length])
