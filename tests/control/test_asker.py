"""Requests are followed until they are answered, whoever leads."""

from __future__ import annotations

from dataclasses import replace

from peerinfer.control.asker import ANSWER_S, ASK_AGAIN_S, ASKED_MAX, NO_LEADER_S, REPEAT_S, Asker
from peerinfer.control.effects import Answered
from peerinfer.control.messages import RequestReply, UnloadRequest
from peerinfer.net.effects import SendTo

A, B = "a" * 32, "b" * 32
REQUEST = UnloadRequest("r1", "tiny")


def following() -> Asker:
    asker = Asker()
    asker.leader_changed(A, 0.0)
    return asker


def test_a_request_goes_to_the_leader_and_its_reply_answers_it_once() -> None:
    asker = following()
    assert asker.ask(REQUEST, 0.0) == (SendTo(A, REQUEST),)
    reply = RequestReply("r1", "", "", "id")
    assert asker.receive(B, reply, 0.0) == (), "only the leader answers"
    assert asker.receive(A, reply, 0.0) == (Answered("r1", "", "", "id"),)
    assert asker.receive(A, reply, 0.0) == ()


def test_a_request_without_a_leader_waits_for_one() -> None:
    asker = Asker()
    assert asker.ask(REQUEST, 0.0) == ()
    assert asker.tick(NO_LEADER_S - 1) == ()
    assert asker.leader_changed(A, NO_LEADER_S - 1) == (SendTo(A, REQUEST),)
    assert asker.tick(NO_LEADER_S + 1) == ()


def test_without_a_leader_for_long_it_is_given_up() -> None:
    asker = following()
    asker.ask(REQUEST, 0.0)
    asker.leader_changed(None, 10.0)
    assert asker.tick(9.0 + NO_LEADER_S) == ()
    (answer,) = asker.tick(10.0 + NO_LEADER_S)
    assert isinstance(answer, Answered)
    assert answer.code == "no_leader"


def test_the_next_leader_is_asked_what_is_open() -> None:
    asker = following()
    asker.ask(REQUEST, 0.0)
    again = SendTo(B, replace(REQUEST, is_repeated=True))
    assert asker.leader_changed(B, 1.0) == (again,)
    assert asker.ask_again(1.0) == (again,)


def test_what_is_not_answered_is_said_again() -> None:
    asker = following()
    assert asker.ask(REQUEST, 0.0) == (SendTo(A, REQUEST),)
    assert asker.tick(REPEAT_S - 0.1) == ()
    assert asker.tick(REPEAT_S) == (SendTo(A, replace(REQUEST, is_repeated=True)),)
    assert asker.tick(REPEAT_S + 0.1) == ()


def test_a_node_that_does_not_lead_yet_is_asked_again() -> None:
    asker = following()
    asker.ask(REQUEST, 0.0)
    assert asker.receive(A, RequestReply("r1", "no_leader", "Not I."), 1.0) == ()
    assert asker.tick(1.0 + ASK_AGAIN_S / 2) == ()
    assert asker.tick(1.0 + ASK_AGAIN_S) == (SendTo(A, replace(REQUEST, is_repeated=True)),)
    assert asker.tick(5.0 + ASK_AGAIN_S) == ()


def test_a_leader_that_never_answers_is_given_up() -> None:
    asker = following()
    asker.ask(REQUEST, 0.0)
    (answer,) = asker.tick(ANSWER_S)
    assert isinstance(answer, Answered)
    assert answer.code == "unavailable"


def test_too_many_requests_are_refused_here() -> None:
    asker = following()
    for number in range(ASKED_MAX):
        asker.ask(UnloadRequest(str(number), "tiny"), 0.0)
    (answer,) = asker.ask(REQUEST, 0.0)
    assert isinstance(answer, Answered)
    assert answer.code == "queue_full"
