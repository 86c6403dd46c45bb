"""An answer through restarts, and what a watch says of its ring; conversations whose questions got no answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from peerinfer.control.state import ClusterState, Epoch, InstanceState, Liveness
from tests.tui.scenes import DESK, OLD, five_nodes
from tui.chat.answer import RESTARTS_MAX, AnswerProgress, RingWatch, broken, route
from tui.chat.conversation import Conversation

pieces = st.lists(st.text("ab ", min_size=1, max_size=3), max_size=8)


def chunk(text: str) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}}]}


@given(pieces, st.integers(0, 8), pieces)
def test_a_reader_never_loses_what_is_said_again(said: list[str], broke_at: int, rest: list[str]) -> None:
    """The same text up to the break, and more: at every moment at least what was seen before is shown."""
    answer = AnswerProgress(0.0)
    for piece in said[:broke_at]:
        answer.take(chunk(piece), 1.0)
    seen = answer.shown
    assert answer.begin_anew(2.0)
    for piece in [*said[:broke_at], *rest]:
        assert answer.shown.startswith(seen)
        answer.take(chunk(piece), 3.0)
    assert answer.shown == "".join([*said[:broke_at], *rest])


def test_what_is_said_otherwise_takes_the_place_of_the_old() -> None:
    answer = AnswerProgress(0.0)
    answer.take(chunk("The sky is blue."), 1.0)
    answer.begin_anew(2.0)
    assert answer.shown == "The sky is blue."
    answer.take(chunk("The sea"), 3.0)
    assert answer.shown == "The sea"


def test_it_is_begun_anew_so_often_and_no_more() -> None:
    answer = AnswerProgress(0.0)
    assert [answer.begin_anew(1.0) for _ in range(RESTARTS_MAX + 1)] == [True] * RESTARTS_MAX + [False]


def test_its_speed_is_of_the_last_try_until_the_daemon_tells() -> None:
    answer = AnswerProgress(0.0)
    for at in (1.0, 2.0):
        answer.take(chunk("a"), at)
    answer.begin_anew(10.0)
    assert answer.speed() == ""
    for at in (10.5, 11.0, 11.5):
        answer.take(chunk("a"), at)
    assert answer.speed() == "2.0 tokens/s, first token 500 ms"
    answer.take({"choices": [], "peerinfer": {"tokens_per_s": 33.0, "ttft_ms": 120.0}}, 12.0)
    assert answer.speed() == "33.0 tokens/s, first token 120 ms"


def with_lost(node: str) -> ClusterState:
    state = five_nodes()
    members = tuple(replace(one, state=Liveness.UNREACHABLE) if one.id == node else one for one in state.members)
    return replace(state, members=members)


def test_a_watch_tells_each_loss_and_each_move_once() -> None:
    watch, state = RingWatch("qwen3:4b"), five_nodes()
    moved = replace(state.instances[0], epoch=Epoch(13, DESK, 1), stages=state.instances[0].stages[:1])
    looks = [state, with_lost(OLD), with_lost(OLD), replace(state, instances=(moved,)), replace(state, instances=())]
    told = [watch.look(each) for each in looks]
    assert told == ["", "bedroom-pc does not answer.", "", "The layers moved: runs on desk alone.", ""]


def test_a_ring_is_broken_while_one_of_it_is_lost_or_it_is_not_ready() -> None:
    state = five_nodes()
    assert broken(state, "qwen3:4b") == ""
    assert broken(with_lost(OLD), "qwen3:4b") == "bedroom-pc does not answer."
    loading = replace(state, instances=(replace(state.instances[0], state=InstanceState.LOADING),))
    assert broken(loading, "") == "qwen3:4b is loading."
    assert broken(state, "other") == "other is not loaded."
    assert route(state, state.instances[0]).startswith("desk 0–18 → kitchen-laptop 18–24")


def test_a_question_without_an_answer_is_set_aside_and_can_be_asked_again() -> None:
    talk = Conversation()
    talk.ask("one")
    talk.answer().text = "1"
    talk.ended()
    talk.ask("two")
    talk.answer()
    talk.ended()
    assert [turn.text for turn in talk.turns] == ["one", "1"]
    assert talk.take_back()
    assert [message["content"] for message in talk.request("m", 1)["messages"]] == ["one", "1", "two"]
    talk.answer()
    talk.ended()
    talk.ask("three")
    assert [message["content"] for message in talk.request("m", 1)["messages"]] == ["one", "1", "three"]
