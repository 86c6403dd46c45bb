"""The pairing machines: only the right code comes to the admission, whatever is said in whatever order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerinfer.errors import InviteExpired, PairingBusy, PairingError, WrongDigits
from peerinfer.identity.authority import CertificateRequest
from peerinfer.identity.exchange import Exchange, Side, host_binding
from peerinfer.identity.invitation import Invitation, JoinCode, read_code
from peerinfer.identity.keys import SigningKey
from peerinfer.identity.pairing import (
    SESSION_S,
    Adopt,
    AskAdmission,
    CloseWindow,
    Ending,
    Fail,
    HangUp,
    HostPairing,
    JoinerPairing,
    Reply,
    Say,
)
from peerinfer.identity.pairing_messages import (
    TRIES_MAX,
    PairingAdmit,
    PairingAnswer,
    PairingConfirm,
    PairingRefused,
    PairingStart,
    Refusal,
)

MESH = "ab" * 16
HOST_KEY = b"h" * 32
ENTROPY = tuple(bytes([n]) * 64 for n in range(TRIES_MAX))
INVITATION = Invitation.of(482913, bytes(range(16)))
RIGHT, WRONG = read_code("482-913"), read_code("482-914")
BY_LINK = read_code(INVITATION.uri("h", 1, MESH))
KEY = SigningKey.from_raw(b"j" * 32)
ADMISSION = b"the mesh's secrets"


def open_window(host_key: bytes = HOST_KEY, closes_at: float = 120.0) -> HostPairing:
    return HostPairing(INVITATION, host_key, MESH, ENTROPY, closes_at)


def joiner(code: JoinCode = RIGHT, host_key: bytes = HOST_KEY, mesh_id: str = MESH) -> JoinerPairing:
    return JoinerPairing(code, CertificateRequest.signed(KEY, "new", mesh_id), host_key, mesh_id, b"e" * 64)


def run(host: HostPairing, guest: JoinerPairing, connection: int = 1, now: float = 0.0) -> list[object]:
    """Every effect of one whole session, in order."""
    seen: list[object] = []
    to_host = [effect.message for effect in guest.start() if isinstance(effect, Say)]
    while to_host:
        effects = list(host.receive(connection, to_host.pop(0), now))
        for effect in effects:
            seen.append(effect)
            if isinstance(effect, AskAdmission):
                effects += host.admit(connection, ADMISSION)
            if isinstance(effect, Reply):
                answers = guest.receive(effect.message)
                seen += answers
                to_host += [answer.message for answer in answers if isinstance(answer, Say)]
    return seen


def first_message(effects: Iterable[object]) -> Any:
    """What is said first among these effects."""
    return next(effect.message for effect in effects if isinstance(effect, Say | Reply))


def failure(effects: list[object]) -> PairingError:
    return next(effect.error for effect in effects if isinstance(effect, Fail))


@pytest.mark.parametrize("code", [RIGHT, BY_LINK], ids=["digits", "link"])
def test_the_right_code_is_admitted_and_closes_the_window(code: JoinCode):
    host = open_window()
    effects = run(host, joiner(code))
    assert Adopt(ADMISSION) in effects
    assert host.outcome is not None
    assert (host.outcome.ending, host.outcome.node_id, host.outcome.name) == (Ending.JOINED, KEY.node_id, "new")
    assert isinstance(failure(run(host, joiner(code), connection=2)), InviteExpired)


def test_the_joiner_confirms_before_the_host_and_nothing_secret_is_readable():
    messages = [effect.message for effect in run(open_window(), joiner()) if isinstance(effect, Say | Reply)]
    assert [type(message) for message in messages] == [PairingAnswer, PairingConfirm, PairingAdmit]  # after the start
    for message in messages:
        assert ADMISSION not in repr(message).encode()
        assert b"new" not in repr(message).encode()


def test_three_wrong_tries_close_the_window():
    host = open_window()
    sentences = [str(failure(run(host, joiner(WRONG), connection=n))) for n in range(TRIES_MAX)]
    assert ["2 tries are" in sentences[0], "1 try is" in sentences[1], "no try is" in sentences[2]] == [True] * 3
    assert host.outcome is not None
    assert host.outcome.ending is Ending.TRIES_USED_UP
    assert isinstance(failure(run(host, joiner(RIGHT), connection=9)), InviteExpired)


def test_a_wrong_try_then_the_right_one():
    host = open_window()
    assert isinstance(failure(run(host, joiner(WRONG))), WrongDigits)
    assert Adopt(ADMISSION) in run(host, joiner(RIGHT), connection=2)


def test_a_try_counts_when_the_hosts_element_leaves():
    host = open_window()
    for connection in range(TRIES_MAX):
        host.receive(connection, first_message(joiner().start()), 0.0)
        assert host.tries_left == TRIES_MAX - 1 - connection
        closing = [type(effect) for effect in host.lost(connection)]
        assert closing == ([] if host.tries_left else [CloseWindow])


def test_one_session_at_a_time():
    host = open_window()
    host.receive(1, first_message(joiner().start()), 0.0)
    assert isinstance(failure(run(host, joiner(), connection=2)), PairingBusy)
    assert host.tries_left == TRIES_MAX - 1


def test_a_slow_session_ends_and_makes_room():
    host = open_window()
    host.receive(1, first_message(joiner().start()), 0.0)
    assert host.tick(SESSION_S - 0.1) == ()
    assert Reply(1, PairingRefused(Refusal.TOO_SLOW, 2)) in host.tick(SESSION_S)
    assert Adopt(ADMISSION) in run(host, joiner(), connection=2, now=SESSION_S)


def test_the_window_closes_in_time_even_under_a_session():
    host = open_window(closes_at=5.0)
    host.receive(1, first_message(joiner().start()), 4.0)
    effects = host.tick(5.0)
    assert effects[:2] == (Reply(1, PairingRefused(Refusal.EXPIRED, 2)), HangUp(1))
    assert host.outcome is not None
    assert host.outcome.ending is Ending.EXPIRED
    assert isinstance(failure(run(host, joiner(), connection=2, now=5.0)), InviteExpired)


def test_an_admission_that_comes_too_late_is_not_sent():
    host = open_window()
    guest = joiner()
    start = first_message(guest.start())
    answer = first_message(host.receive(1, start, 0.0))
    asked = host.receive(1, first_message(guest.receive(answer)), 0.0)
    assert isinstance(asked[0], AskAdmission)
    host.lost(1)
    assert host.admit(1, ADMISSION) == ()


def test_a_declined_node_gets_a_sentence():
    host = open_window()
    guest = joiner()
    answer = first_message(host.receive(1, first_message(guest.start()), 0.0))
    host.receive(1, first_message(guest.receive(answer)), 0.0)
    effects = host.decline(1)
    assert "leave" in str(failure(list(guest.receive(first_message(effects)))))


def test_a_relay_fails_even_with_the_right_digits():
    """Whoever stands between shows the joiner a TLS key of its own: forwarding every byte does not help."""
    host = open_window(host_key=HOST_KEY)
    effects = run(host, joiner(RIGHT, host_key=b"r" * 32))
    assert isinstance(failure(effects), WrongDigits)
    assert not any(isinstance(effect, AskAdmission) for effect in effects)
    assert isinstance(failure(run(open_window(), joiner(RIGHT, mesh_id="cd" * 16))), WrongDigits)


def test_the_certificate_request_must_carry_the_key_of_the_exchange():
    host = open_window()
    other = SigningKey.from_raw(b"o" * 32)
    binding = host_binding(HOST_KEY, MESH)
    exchange = Exchange(Side.JOINER, RIGHT.password, KEY.public_key, binding, b"e" * 64)
    answer = first_message(host.receive(1, PairingStart(KEY.public_key, False, exchange.element), 0.0))
    keys = exchange.finish(answer.element)
    sealed = keys.seal(Side.JOINER, CertificateRequest.signed(other, "new", MESH).to_bytes())
    effects = host.receive(1, PairingConfirm(keys.confirmation(Side.JOINER, sealed), sealed), 0.0)
    assert effects[0] == Reply(1, PairingRefused(Refusal.BAD_MESSAGE, 2))


def test_a_host_without_the_code_learns_nothing_and_is_not_believed():
    impostor = HostPairing(Invitation.of(1, bytes(16)), HOST_KEY, MESH, ENTROPY, 120.0)
    guest = joiner()
    answer = first_message(impostor.receive(1, first_message(guest.start()), 0.0))
    guest.receive(answer)
    forged = guest.receive(PairingAdmit(b"c" * 32, b"s" * 64))
    assert "could not prove" in str(failure(list(forged)))
    assert guest.receive(PairingAdmit(b"c" * 32, b"s" * 64)) == ()


@pytest.mark.parametrize("field", ["confirmation", "sealed_admission"])
def test_a_changed_admission_is_refused(field: str):
    host, guest = open_window(), joiner()
    answer = first_message(host.receive(1, first_message(guest.start()), 0.0))
    host.receive(1, first_message(guest.receive(answer)), 0.0)
    admit = first_message(host.admit(1, ADMISSION))
    changed = bytes([getattr(admit, field)[0] ^ 1]) + getattr(admit, field)[1:]
    assert isinstance(guest.receive(replace(admit, **{field: changed}))[0], Fail)


ELEMENTS = [
    Exchange(side, code.password, KEY.public_key, host_binding(HOST_KEY, MESH), b"x" * 64).element
    for code in (WRONG, read_code("000000"))
    for side in Side
]
said = st.one_of(
    st.builds(PairingStart, st.just(KEY.public_key), st.booleans(), st.sampled_from(ELEMENTS) | st.binary(max_size=40)),
    st.builds(PairingConfirm, st.binary(min_size=32, max_size=32), st.binary(max_size=80)),
    st.builds(PairingAnswer, st.sampled_from(ELEMENTS)),
    st.builds(PairingAdmit, st.binary(max_size=32), st.binary(max_size=40)),
    st.builds(PairingRefused, st.sampled_from(list(Refusal)), st.integers(-9, 9)),
    st.none() | st.integers() | st.text(max_size=5),
)
steps = st.lists(st.tuples(st.integers(0, 3), st.just("lost") | st.just("admit") | said, st.floats(0, 20)), max_size=12)


@given(steps)
@settings(max_examples=60, deadline=None)
def test_no_sequence_of_messages_reveals_the_admission_without_the_code(steps: list[tuple[int, object, float]]):
    host = open_window()
    now = 0.0
    for connection, step, later in steps:
        now += later
        if step == "lost":
            effects = host.lost(connection)
        elif step == "admit":
            effects = host.admit(connection, ADMISSION)
        else:
            effects = (*host.receive(connection, step, now), *host.tick(now))
        for effect in effects:
            assert not isinstance(effect, AskAdmission)
            assert not (isinstance(effect, Reply) and isinstance(effect.message, PairingAdmit))
    assert 0 <= host.tries_left <= TRIES_MAX


@given(st.lists(said, max_size=6))
@settings(max_examples=40, deadline=None)
def test_no_sequence_of_messages_makes_a_joiner_adopt(messages: list[object]):
    guest = joiner()
    guest.start()
    for message in messages:
        assert not any(isinstance(effect, Adopt) for effect in guest.receive(message))
