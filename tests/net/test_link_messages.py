"""The link's messages: bytes that never change, values that are refused, names and addresses made safe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import BadFrame
from peerinfer.names import NAME_MAX, clean_name
from peerinfer.net.address import is_ip_address, join_address, split_address
from peerinfer.net.link_messages import (
    Goodbye,
    GoodbyeReason,
    Hello,
    HelloAck,
    PeerAddress,
    PeerAddresses,
    Ping,
    Pong,
)
from peerinfer.net.messages import decode, encode

NODE = "0123456789abcdef" * 2
MESH = "ab" * 16
NODE_HEX = "d920" + NODE.encode().hex()
MESH_HEX = "d920" + MESH.encode().hex()

GOLDEN = [
    (Hello(1, MESH, NODE, 7, "Ada", 8643), f"9701 01 {MESH_HEX} {NODE_HEX} 07 a3416461 cd21c3"),
    (HelloAck(7), "92 02 07"),
    (Ping(1_000_000), "92 03 ce000f4240"),
    (Pong(1_000_000, -5), "93 04 ce000f4240 fb"),
    (Goodbye(GoodbyeReason.LEAVING, "Bye."), "93 05 a76c656176696e67 a44279652e"),
    (
        PeerAddresses((PeerAddress(NODE, ("192.0.2.7:8643",)),)),
        f"92 0c 91 92 {NODE_HEX} 91 ae3139322e302e322e373a38363433",
    ),
]


@pytest.mark.parametrize(("value", "wire"), GOLDEN, ids=lambda item: type(item).__name__)
def test_golden_bytes(value: object, wire: str):
    assert encode(value).hex() == wire.replace(" ", "")
    assert decode(bytes.fromhex(wire)) == value


@pytest.mark.parametrize(
    "wire",
    [
        GOLDEN[0][1].replace(NODE_HEX, "d920" + (b"Z" * 32).hex()),  # not a node id
        GOLDEN[0][1].replace("cd21c3", "ce00010000"),  # port 65536
        GOLDEN[0][1].replace("07 a3", "ff a3"),  # incarnation -1
        "92 0c 91 92 " + NODE_HEX + " 99" + " a0" * 9,  # nine addresses
        "91 03",  # a ping without its stamp
    ],
)
def test_invalid_values_are_refused(wire: str):
    with pytest.raises(BadFrame):
        decode(bytes.fromhex(wire))


def test_names_are_made_fit_to_show():
    assert clean_name("  Ada\x1b[31m\u202e\n's laptop ") == "Ada[31m 's laptop"
    assert clean_name("é 猫") == "é 猫"


@given(st.text())
def test_any_name_is_one_short_printable_line(text: str):
    name = clean_name(text)
    assert len(name) <= NAME_MAX
    assert name == clean_name(name) or name.rstrip() == clean_name(name)
    assert len(name.splitlines()) <= 1


@pytest.mark.parametrize("text", ["192.0.2.7:8643", "[fe80::1%eth0]:1", "ada.local:65535"])
def test_addresses_round_trip(text: str):
    assert join_address(*split_address(text)) == text


@pytest.mark.parametrize(
    "text", ["", ":1", "host", "host:0", "host:65536", "host:x", "fe80::1:80", "a/b:1", "u@h:1", "h h:1", "h:1²"]
)
def test_what_is_no_address_is_refused(text: str):
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(text)


def test_only_plain_ip_addresses_are_taken_from_others():
    assert is_ip_address("192.0.2.7:1")
    assert is_ip_address("[2001:db8::1]:1")
    assert not any(map(is_ip_address, ["ada.local:1", "224.0.0.251:1", "0.0.0.0:1", "192.0.2.7", "192.0.2.7:0"]))
