"""A host that asks its person: a session lasts as long as the window, and each of its ends takes the question back."""

from __future__ import annotations

import pytest

from peerinfer.errors import InviteExpired, PairingBusy
from peerinfer.identity.authority import CertificateRequest
from peerinfer.identity.keys import SigningKey
from peerinfer.identity.pairing import (
    SESSION_S,
    Adopt,
    AskAdmission,
    CloseWindow,
    Ending,
    HangUp,
    HostEffect,
    HostPairing,
    JoinerPairing,
    Outcome,
    Reply,
    WithdrawQuestion,
)
from peerinfer.identity.pairing_messages import TRIES_MAX, PairingRefused, Refusal
from tests.identity.test_pairing import (
    ADMISSION,
    ENTROPY,
    HOST_KEY,
    INVITATION,
    KEY,
    MESH,
    RIGHT,
    failure,
    first_message,
    joiner,
    run,
)

CLOSES_AT = 120.0


@pytest.fixture
def host() -> HostPairing:
    return HostPairing(INVITATION, HOST_KEY, MESH, ENTROPY, CLOSES_AT, asks_person=True)


def ask(host: HostPairing, guest: JoinerPairing, connection: int = 1, now: float = 0.0) -> None:
    """Brings `guest` to where a person is asked."""
    assert not guest.awaits_admission
    answer = first_message(host.receive(connection, first_message(guest.start()), now))
    asked = host.receive(connection, first_message(guest.receive(answer)), now)
    assert asked == (AskAdmission(connection, CertificateRequest.signed(KEY, "new", MESH)),)
    assert guest.awaits_admission


def test_a_yes_may_take_as_long_as_the_window(host: HostPairing) -> None:
    guest = joiner()
    ask(host, guest)
    assert host.tick(SESSION_S) == host.tick(CLOSES_AT - 0.1) == ()
    effects = host.admit(1, ADMISSION)
    assert [type(effect) for effect in effects] == [Reply, HangUp, CloseWindow]
    assert guest.receive(first_message(effects)) == (Adopt(ADMISSION),)
    assert not guest.awaits_admission
    assert host.outcome == Outcome(Ending.JOINED, KEY.node_id, "new")


def test_until_the_code_is_proven_a_session_is_short(host: HostPairing) -> None:
    host.receive(1, first_message(joiner().start()), 0.0)
    assert host.tick(SESSION_S) == (Reply(1, PairingRefused(Refusal.TOO_SLOW, 2)), HangUp(1))


def test_a_no_is_a_sentence_and_the_window_stays_open(host: HostPairing) -> None:
    guest = joiner()
    ask(host, guest)
    effects = host.decline(1, Refusal.DECLINED)
    assert effects == (Reply(1, PairingRefused(Refusal.DECLINED, 2)), HangUp(1))
    assert str(failure(list(guest.receive(first_message(effects))))) == (
        "The other machine's owner did not let this one in."
    )
    assert host.decline(1, Refusal.DECLINED) == host.admit(1, ADMISSION) == host.lost(1) == ()
    assert host.outcome is None
    other = SigningKey.from_raw(b"o" * 32)
    second = JoinerPairing(RIGHT, CertificateRequest.signed(other, "other", MESH), HOST_KEY, MESH, b"e" * 64)
    assert Adopt(ADMISSION) in run(host, second, connection=2, now=60.0)
    assert host.outcome == Outcome(Ending.JOINED, other.node_id, "other")


def test_three_noes_use_the_tries_up(host: HostPairing) -> None:
    effects: tuple[HostEffect, ...] = ()
    for connection in range(TRIES_MAX):
        ask(host, joiner(), connection)
        effects = host.decline(connection, Refusal.DECLINED)
        assert not any(isinstance(effect, WithdrawQuestion) for effect in effects)
    assert effects[2:] == (CloseWindow(Outcome(Ending.TRIES_USED_UP)),)


@pytest.mark.parametrize("before", range(TRIES_MAX))
def test_a_window_that_closes_takes_the_question_back(host: HostPairing, before: int) -> None:
    """After any number of tries: it is the time that ended it."""
    for connection in range(before):
        ask(host, joiner(), connection)
        host.lost(connection)
    guest = joiner()
    ask(host, guest, 9)
    effects = host.tick(CLOSES_AT)
    left = TRIES_MAX - before - 1
    assert effects == (
        Reply(9, PairingRefused(Refusal.EXPIRED, left)),
        HangUp(9),
        WithdrawQuestion(9),
        CloseWindow(Outcome(Ending.EXPIRED)),
    )
    assert isinstance(failure(list(guest.receive(first_message(effects)))), InviteExpired)
    assert host.admit(9, ADMISSION) == host.decline(9) == host.tick(CLOSES_AT) == ()


def test_a_joiner_that_goes_takes_its_question_along(host: HostPairing) -> None:
    """As one of an older version does, which waits for 15 seconds."""
    ask(host, joiner())
    assert host.lost(1) == (WithdrawQuestion(1),)
    assert host.admit(1, ADMISSION) == host.decline(1) == ()
    assert Adopt(ADMISSION) in run(host, joiner(), connection=2, now=16.0)


def test_the_last_try_that_goes_ends_the_window(host: HostPairing) -> None:
    effects: tuple[HostEffect, ...] = ()
    for connection in range(TRIES_MAX):
        ask(host, joiner(), connection)
        effects = host.lost(connection)
    assert effects == (WithdrawQuestion(TRIES_MAX - 1), CloseWindow(Outcome(Ending.TRIES_USED_UP)))


def test_others_are_told_to_wait_meanwhile(host: HostPairing) -> None:
    guest = joiner()
    ask(host, guest)
    assert isinstance(failure(run(host, joiner(), connection=2, now=60.0)), PairingBusy)
    assert host.decline(2, Refusal.DECLINED) == host.admit(2, ADMISSION) == host.lost(2) == ()
    assert guest.receive(first_message(host.admit(1, ADMISSION))) == (Adopt(ADMISSION),)
    assert host.tries_left == TRIES_MAX - 1


def test_who_speaks_while_asked_about_is_refused(host: HostPairing) -> None:
    ask(host, joiner())
    said = host.receive(1, first_message(joiner().start()), 1.0)
    assert said == (Reply(1, PairingRefused(Refusal.BAD_MESSAGE, 2)), HangUp(1), WithdrawQuestion(1))


def test_a_window_that_is_closed_by_hand_tells_who_waits(host: HostPairing) -> None:
    ask(host, joiner())
    assert host.cancel() == (
        Reply(1, PairingRefused(Refusal.EXPIRED, 2)),
        HangUp(1),
        WithdrawQuestion(1),
        CloseWindow(Outcome(Ending.CANCELLED)),
    )
    assert host.cancel() == ()
