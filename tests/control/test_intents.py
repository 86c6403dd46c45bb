"""What people asked for: the newest wins, tombstones stay, and nothing forged or malformed gets in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.control import intents as intents_module
from peerinfer.control.intents import INTENTS_MAX, JUMP_MAX, Intent, IntentBook, Stamp
from peerinfer.control.planning import Wishes
from peerinfer.net.messages import pack_fields
from peerinfer.packing import pack, unpack
from tests.control.cluster import MESH, FakeSigner

A, B, C = "a" * 32, "b" * 32, "c" * 32
DIGEST = "d" * 64


def wishes(digest: str = DIGEST, **changes: Any) -> Wishes:
    return replace(Wishes(digest, 1024, 2), **changes)


def book(node: str = A, stored: tuple[bytes, ...] = ()) -> IntentBook:
    return IntentBook(node, MESH, FakeSigner(node), stored)


def statement(intent: Intent, signer: str, mesh: str = MESH) -> bytes:
    body = pack(pack_fields(intent))
    return pack([body, signer, FakeSigner(signer).sign(b"peerinfer/intent/v1\0" + bytes.fromhex(mesh) + body)])


def intent(counter: int = 1, node: str = B, **changes: Any) -> Intent:
    return replace(Intent(Stamp(counter, node), DIGEST, "tiny", "i" * 32, True), **changes)


def test_what_is_minted_is_wanted_and_can_be_buried() -> None:
    own = book()
    own.mint(DIGEST, "tiny", wishes(min_nodes=2, stages=(("x", 0, 3),)), C)
    (wanted,) = own.wanted()
    assert (wanted.digest, wanted.first, wanted.wishes) == (DIGEST, C, wishes(min_nodes=2, stages=(("x", 0, 3),)))
    assert own.named("tiny") == own.named(DIGEST) == own.named(wanted.id) == (wanted,)
    own.bury(wanted)
    assert own.wanted() == own.named("tiny") == ()
    assert own.named("tiny", buried=True) != ()
    assert own.statement(DIGEST) != b""
    assert own.statement("x") == b""


def test_every_wish_has_an_id_of_its_own() -> None:
    own = book()
    own.mint(DIGEST, "tiny", wishes(), A)
    first = own.wanted()[0]
    own.mint(DIGEST, "tiny", wishes(slots=3), A)
    assert own.wanted()[0].id != first.id
    assert own.wanted()[0].stamp > first.stamp


def test_others_take_it_in_once_and_then_hold_the_same() -> None:
    own, other = book(A), book(B)
    told = own.mint(DIGEST, "tiny", wishes(), A)
    assert own.fingerprint != other.fingerprint
    assert other.offer((told,)) == (told,)
    assert other.offer((told,)) == ()
    assert own.fingerprint == other.fingerprint
    assert other.statements == own.statements


def test_an_unload_is_not_undone_by_an_older_load_that_comes_late() -> None:
    own, other = book(A), book(B)
    load = own.mint(DIGEST, "tiny", wishes(), A)
    unload = own.bury(own.wanted()[0])
    assert other.offer((unload, load)) == (unload,)
    assert other.wanted() == ()


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6))
def test_any_order_and_any_doubling_gives_the_newest(order: list[int], doubled: list[int]) -> None:
    told = [statement(intent(n // 2 + 1, (A, B)[n % 2], is_wanted=n % 3 != 0), (A, B)[n % 2]) for n in range(6)]
    own = book(C)
    for number in [*order, *doubled]:
        own.offer((told[number],))
    assert own.statements == (told[5],)


def test_what_its_signer_did_not_sign_for_this_mesh_is_refused() -> None:
    own = book()
    body, _, signature = cast("list[object]", unpack(statement(intent(), C), 9000))
    for forged in (pack([body, B, signature]), statement(intent(), B, "bb" * 16)):
        assert own.offer((forged,)) == ()


def test_a_removed_node_states_nothing_and_others_vouch_for_what_it_stated() -> None:
    signer = FakeSigner(A)
    own = IntentBook(A, MESH, signer)
    told = statement(intent(), B)
    assert own.offer((told,)) == (told,)
    assert own.vouch() == ()
    signer.removed.add(B)
    (again,) = own.vouch()
    assert own.vouch() == ()
    assert own.wanted() == (intent(),), "it does not become newer than it is"
    assert own.offer((statement(intent(9), B),)) == ()
    assert book(C).offer((again,)) == (again,)


def test_vouching_for_an_old_load_does_not_undo_a_newer_unload() -> None:
    signer = FakeSigner(C)
    slept = IntentBook(C, MESH, signer)
    slept.offer((statement(intent(1, B), B),))
    own = book(A)
    own.offer((statement(intent(1, B), B),))
    unload = own.bury(own.wanted()[0])
    signer.removed.add(B)
    (vouched,) = slept.vouch()
    assert own.offer((vouched,)) == ()
    assert slept.offer((unload,)) == (unload,)
    assert slept.wanted() == own.wanted() == ()


def test_a_voucher_is_taken_where_the_former_name_counts_no_more() -> None:
    signer = FakeSigner(A)
    own = IntentBook(A, MESH, signer)
    own.offer((statement(intent(), B),))
    vouched = statement(intent(), C)
    assert own.offer((vouched,)) == (), "the first is as good"
    signer.removed.add(B)
    assert own.offer((vouched,)) == (vouched,)
    assert own.vouch() == ()


def test_a_counter_that_no_honest_node_reached_is_refused() -> None:
    assert book().offer((statement(intent(JUMP_MAX + 1), B),)) == ()
    assert book().offer((statement(intent(JUMP_MAX), B),)) != ()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        pack(7),
        pack([b"x", B]),
        pack(["body", B, b"s"]),
        pack([b"body", B, 7]),
        pack([b"body", 7, b"s"]),
        pack([b"\xc1", B, b"s"]),
        pack([pack([1, 2]), B, b"s"]),
        pack([pack([]), B, b"s"]),
    ],
)
def test_what_is_no_statement_is_left_out(data: bytes) -> None:
    assert book().offer((data,)) == ()
    assert len(book(stored=(data,))) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"stamp": Stamp(-1, B)},
        {"digest": "d" * 65},
        {"id": "i" * 65},
        {"model": "m" * 129},
        {"policy": "p" * 65},
        {"model": "a\x1b[31m"},
        {"first": "f" * 65},
        {"context": 0},
        {"slots": 0},
        {"min_nodes": 65},
        {"stages": (("n", 0, 1),) * 65},
        {"stages": (("n" * 129, 0, 1),)},
    ],
)
def test_an_impossible_intent_cannot_be_built_or_read(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"impossible|cannot be shown"):
        intent(**changes)


def test_what_is_stored_is_there_in_the_next_life_even_of_removed_nodes() -> None:
    own = book()
    own.offer((statement(intent(), B),))
    assert book(stored=own.statements).wanted() == own.wanted()


def test_a_full_book_lets_its_oldest_tombstone_go_and_then_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert INTENTS_MAX == 256
    monkeypatch.setattr(intents_module, "INTENTS_MAX", 3)
    own = book()
    for letter in "123":
        own.mint(letter * 64, letter, wishes(letter * 64), A)
    own.bury(own.named("2")[0])
    own.bury(own.named("1")[0])
    own.mint("4" * 64, "4", wishes("4" * 64), A)
    assert own.find("2" * 64) is None, "it was buried first"
    late = statement(Intent(Stamp(2, A), "2" * 64, "2", "i" * 32, True), A)
    assert own.offer((late,)) == (), "it may be what that tombstone had buried"
    assert own.find("1" * 64) is not None
    own.mint("5" * 64, "5", wishes("5" * 64), A)
    own.mint("6" * 64, "6", wishes("6" * 64), A)
    assert [one.model for one in own.wanted()] == ["3", "4", "5"]
    assert book(B).offer(own.statements) == own.statements


def test_a_statement_is_body_and_signature() -> None:
    body, signer, signature = cast("list[object]", unpack(book().mint(DIGEST, "tiny", wishes(), A), 9000))
    assert isinstance(body, bytes)
    assert signer == A
    assert signature == FakeSigner(A).sign(b"peerinfer/intent/v1\0" + bytes.fromhex(MESH) + body)
