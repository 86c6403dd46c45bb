"""Gossip's messages on the wire: golden bytes, so that no release changes them by accident."""

from __future__ import annotations

import pytest

from peerinfer.errors import BadFrame
from peerinfer.gossip.messages import (
    MESSAGES,
    AskHeard,
    Farewell,
    GossipDigest,
    GossipMarks,
    Heard,
    SnapshotSealed,
)
from peerinfer.net.messages import decode, encode

NODE = bytes(range(16))
GOLDEN: dict[object, str] = {
    SnapshotSealed(b"\x96seal"): "920bc405967365616c",
    GossipDigest(NODE): "920dc410000102030405060708090a0b0c0d0e0f",
    GossipMarks(
        ((NODE, 3, 70000), (b"\xff" * 16, 1, 1))
    ): "930e9293c410000102030405060708090a0b0c0d0e0f03ce0001117093c410ffffffffffffffffffffffffffffffff0101c3",
    GossipMarks(((NODE, 3, -1),), complete=False): "930e9193c410000102030405060708090a0b0c0d0e0f03ffc2",
    AskHeard((NODE.hex(),), 9): "930f91d920303030313032303330343035303630373038303930613062306330643065306609",
    Heard(
        9, ((NODE.hex(), 3, 480_000),)
    ): "9310099193d920303030313032303330343035303630373038303930613062306330643065306603ce00075300",
    Farewell(3): "921103",
}


@pytest.mark.parametrize("message", GOLDEN, ids=lambda message: type(message).__name__)
def test_the_bytes_on_the_wire_stay_as_they_are(message: object) -> None:
    assert encode(message).hex() == GOLDEN[message]
    assert decode(bytes.fromhex(GOLDEN[message])) == message


def test_every_message_has_its_bytes_here() -> None:
    assert {type(message) for message in GOLDEN} == set(MESSAGES)


@pytest.mark.parametrize("message", GOLDEN, ids=lambda message: type(message).__name__)
def test_a_message_that_is_cut_short_is_refused(message: object) -> None:
    data = encode(message)
    for length in range(len(data)):
        with pytest.raises(BadFrame):
            decode(data[:length])
