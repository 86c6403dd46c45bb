"""Control messages on the wire: golden bytes, so that no release changes them by accident."""

from __future__ import annotations

import pytest

from peerinfer.control.messages import (
    HELD_MAX,
    STATEMENTS_MAX,
    Ballot,
    DropStage,
    HeldPart,
    Instances,
    Intents,
    LoadRequest,
    LoadStage,
    RequestReply,
    StageReport,
    StagesHeld,
    UnloadRequest,
)
from peerinfer.control.state import Instance, InstanceState, StagePlace
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
GOLDEN: dict[object, str] = {
    LoadRequest("r1", "tiny", "dd", 4096, 4, "latency", 2, (("n1", 0, 2), ("n2", 2, 5))): (
        "9915a27231a474696e79a26464cd100004a76c6174656e6379029293a26e31000293a26e320205"
    ),
    UnloadRequest("r2", "tiny"): ("9416a27232a474696e79c2"),
    RequestReply("r1", "no_placement", "Too large.", "id"): (
        "9617a27231ac6e6f5f706c6163656d656e74aa546f6f206c617267652ea26964c400"
    ),
    LoadStage(BALLOT, 9, INSTANCE, 1): (
        "95189203a261620999a26964a474696e79a264649303a2616201a76c6f6164696e679294a26e31a96c6c616d"
        "612e637070000294a26e32a36d6c780205cd100004a001"
    ),
    DropStage(BALLOT, 10, "id", EPOCH): ("95199203a261620aa269649303a2616201"),
    StageReport("id", EPOCH, 1, "loading", "", 0.5): ("971aa269649303a261620101a76c6f6164696e67a0cb3fe0000000000000"),
    Instances(BALLOT, 11, (INSTANCE,)): (
        "951b9203a261620b9199a26964a474696e79a264649303a2616201a76c6f6164696e679294a26e31a96c6c61"
        "6d612e637070000294a26e32a36d6c780205cd100004a090"
    ),
}


@pytest.mark.parametrize("message", GOLDEN, ids=lambda message: type(message).__name__)
def test_the_bytes_on_the_wire_stay_as_they_are(message: object) -> None:
    golden = bytes.fromhex(GOLDEN[message])
    assert encode(message) == golden
    assert decode(golden) == message


def test_an_instance_in_an_unknown_state_is_refused() -> None:
    data = encode(Instances(BALLOT, 9, (INSTANCE,))).replace(b"loading", b"floatin")
    with pytest.raises(BadFrame):
        decode(data)


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
