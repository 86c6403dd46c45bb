"""The CA on the wire: bytes that never change, and values that are refused."""

from __future__ import annotations

import pytest

from peerinfer.errors import BadFrame
from peerinfer.identity.authority import AuthorityParts
from peerinfer.identity.roster import STATEMENTS_MAX
from peerinfer.net.authority_messages import AuthorityHeld, RotatedAuthority
from peerinfer.net.messages import decode, encode

GOLDEN = [
    (
        RotatedAuthority(AuthorityParts(b"key", (b"ca2", b"ca1"), b"said"), (b"admit",)),
        "93 06 93 c4036b6579 92 c403636132 c403636131 c40473616964 91 c40561646d6974",
    ),
    (AuthorityHeld(b"\x07" * 32), f"92 07 c420 {'07' * 32}"),
]


@pytest.mark.parametrize(("value", "wire"), GOLDEN, ids=lambda item: type(item).__name__)
def test_golden_bytes(value: object, wire: str):
    assert encode(value).hex() == wire.replace(" ", "")
    assert decode(bytes.fromhex(wire)) == value


@pytest.mark.parametrize(
    "wire",
    [
        GOLDEN[0][1].replace("93 c4036b6579", "92"),  # no key
        GOLDEN[0][1].replace("c4036b6579", "a36b6579"),  # a key that is a text
        GOLDEN[0][1].replace("92 c403636132 c403636131", "c403636132"),  # a chain that is no array
        GOLDEN[0][1].replace("91 c405", f"dc{STATEMENTS_MAX + 1:04x}" + "c400" * STATEMENTS_MAX + "c405"),
        f"92 07 c41f {'07' * 31}",
        "91 06",
    ],
)
def test_invalid_values_are_refused(wire: str):
    with pytest.raises(BadFrame):
        decode(bytes.fromhex(wire))


def test_a_key_is_never_printed():
    assert "secret" not in repr(RotatedAuthority(AuthorityParts(b"secret", (), b""), ()))
