"""Codes as people type them, and links as programs read them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import PairingError
from peerinfer.identity.invitation import Invitation, read_code

SECRET = bytes(range(16))


@pytest.mark.parametrize(
    "typed", ["482-913", "482913", " 482 913 ", "482–913", "4 8 2 9 1 3", "482\u2011913", "４８２-９１３"]
)
def test_digits_are_read_as_typed(typed: str):
    assert read_code(typed).password == Invitation.of(482913, SECRET).password(by_secret=False)


def test_digits_keep_their_zeros():
    assert Invitation.of(42, SECRET).code == "000-042"


@pytest.mark.parametrize("host", ["192.168.1.5", "::1", "laptop.example"])
def test_a_link_says_it_all(host: str):
    invitation = Invitation.of(7, SECRET)
    code = read_code(invitation.uri(host, 4711, "ab" * 16))
    assert (code.host, code.port, code.mesh_id, code.by_secret) == (host, 4711, "ab" * 16, True)
    assert code.password == invitation.password(by_secret=True)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "48291",
        "4829133",
        "48291x",
        "peerinfer://join",
        "peerinfer://join?at=h:1&mesh=ab&secret=00",
        "peerinfer://other?at=h:1&mesh=" + "ab" * 16 + "&secret=" + "00" * 16,
        "peerinfer://join?at=h:x&mesh=" + "ab" * 16 + "&secret=" + "00" * 16,
        "https://join?at=h:1",
    ],
)
def test_what_is_no_invitation_gets_a_sentence(bad: str):
    with pytest.raises(PairingError, match="six digits"):
        read_code(bad)


@given(st.text(max_size=80) | st.text(max_size=80).map(lambda rest: "peerinfer://join?" + rest))
def test_any_text_is_read_or_refused(text: str):
    with contextlib.suppress(PairingError):
        assert read_code(text).password
