"""The roster: any order gives the same one, removed is for ever, and nothing unsigned counts."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peerinfer.identity import roster as roster_module
from peerinfer.identity.keys import SigningKey
from peerinfer.identity.roster import Admit, Remove, Roster, Statement, clean_name
from peerinfer.names import NAME_MAX

MESH = "ab" * 16
KEYS = [SigningKey.from_raw(bytes([number]) * 32) for number in range(6)]
A, B, C, D, E, F = KEYS


def admit(issuer: SigningKey, subject: SigningKey, name: str = "x") -> Statement:
    return Statement.signed(issuer, MESH, Admit(subject.public_key, name))


def remove(issuer: SigningKey, subject: SigningKey, *keeps: SigningKey) -> Statement:
    return Statement.signed(issuer, MESH, Remove(subject.node_id, tuple(key.node_id for key in keeps)))


def members(*statements: Statement) -> set[str]:
    return set(Roster.of(MESH, A.node_id, statements).members)


def ids(*keys: SigningKey) -> set[str]:
    return {key.node_id for key in keys}


@st.composite
def statement_sets(draw: st.DrawFn) -> list[Statement]:
    who = st.sampled_from(KEYS)
    admits = draw(st.lists(st.tuples(who, who), max_size=10))
    removes = draw(st.lists(st.tuples(who, who, st.lists(who, max_size=3)), max_size=3))
    return [admit(A, A), *(admit(i, s) for i, s in admits), *(remove(i, s, *keeps) for i, s, keeps in removes)]


@given(statement_sets(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_order_and_grouping_gives_the_same_roster(statements: list[Statement], chance: random.Random):
    whole = Roster.of(MESH, A.node_id, statements)
    shuffled = [statement.to_bytes() for statement in statements] * 2
    chance.shuffle(shuffled)
    stepwise = Roster.of(MESH, A.node_id)
    while shuffled:
        size = chance.randint(1, len(shuffled))
        part, shuffled = shuffled[:size], shuffled[size:]
        stepwise = stepwise.merged(part)
    assert stepwise == whole
    assert stepwise.to_wire() == whole.to_wire()


@given(statement_sets(), statement_sets())
@settings(max_examples=60, deadline=None)
def test_who_is_removed_stays_removed_whatever_comes(before: list[Statement], after: list[Statement]):
    earlier = Roster.of(MESH, A.node_id, before)
    later = Roster.of(MESH, A.node_id, before + after)
    assert earlier.removed <= later.removed
    assert not later.removed & later.members.keys()


def test_a_chain_of_admits_leads_from_the_founder():
    assert members(admit(A, A), admit(A, B), admit(B, C)) == ids(A, B, C)
    assert members(admit(A, A), admit(B, C), admit(C, C)) == ids(A)
    assert members(admit(B, B)) == set()


def test_remove_beats_admit_in_any_number():
    assert members(admit(A, A), admit(A, B), remove(A, B), admit(A, B, "again"), admit(B, B)) == ids(A)


def test_a_strangers_remove_counts_for_nothing():
    assert members(admit(A, A), admit(A, B), remove(C, B)) == ids(A, B)


def test_a_removed_member_lets_nobody_in_but_those_it_had_stay():
    before = Roster.of(MESH, A.node_id, [admit(A, A), admit(A, B), admit(B, C)])
    after = before.removing(A, B.node_id)
    assert set(after.members) == ids(A, C)
    late = after.merged([admit(B, D).to_bytes(), admit(D, E).to_bytes()])
    assert set(late.members) == ids(A, C)
    assert set(late.merged([admit(C, D).to_bytes()]).members) == ids(A, C, D, E)


def test_the_founder_can_be_removed_and_the_mesh_lives():
    before = Roster.of(MESH, A.node_id, [admit(A, A), admit(A, B), admit(A, C), admit(C, D)])
    after = before.removing(B, A.node_id)
    assert set(after.members) == ids(B, C, D)
    thief = [admit(A, E).to_bytes(), remove(E, A, E).to_bytes()]
    assert E.node_id not in after.merged(thief).members


def test_a_puppet_of_a_removed_member_stays_out():
    before = Roster.of(MESH, A.node_id, [admit(A, A), admit(A, B)])
    after = before.removing(A, B.node_id).merged([admit(B, E).to_bytes(), admit(E, E).to_bytes()])
    assert set(after.merged([remove(E, B, E).to_bytes()]).members) == ids(A)


def test_two_who_remove_each_other_are_both_out():
    assert members(admit(A, A), admit(A, B), admit(A, C), remove(B, C), remove(C, B)) == ids(A)


def test_every_flipped_bit_is_refused():
    start = Roster.of(MESH, A.node_id, [admit(A, A)])
    data = admit(A, B).to_bytes()
    assert start.merged([data]).is_member(B.node_id)
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert start.merged([bytes(flipped)]) == start, f"bit {bit}"


@given(st.binary(max_size=300))
def test_garbage_is_left_out(data: bytes):
    start = Roster.of(MESH, A.node_id, [admit(A, A)])
    assert start.merged([data]) == start


def test_a_statement_of_another_mesh_is_left_out():
    start = Roster.of(MESH, A.node_id, [admit(A, A)])
    foreign = Statement.signed(A, "cd" * 16, Admit(B.public_key, "b"))
    assert start.merged([foreign.to_bytes()]) == start


def test_a_mesh_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(roster_module, "MEMBERS_MAX", 3)
    full = Roster.of(MESH, A.node_id, [admit(A, A), *(admit(A, key) for key in KEYS), admit(B, F)])
    assert len(full.members) == 3
    assert full.is_member(A.node_id)


def test_a_flood_of_admits_hides_no_remove(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(roster_module, "STATEMENTS_MAX", 4)
    start = Roster.of(MESH, A.node_id, [admit(A, A), admit(A, B), remove(A, B)])
    flooded = start.merged([admit(A, F, str(n)).to_bytes() for n in range(9)])
    assert len(flooded.statements) == 4
    assert any(isinstance(statement.claim, Remove) for statement in flooded.statements)


@given(st.text(max_size=200))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_a_clean_name_is_fit_for_a_screen(text: str):
    name = clean_name(text)
    assert 0 < len(name) <= NAME_MAX
    assert not any(unicodedata.category(char)[0] == "C" or char in "\n\u2028\u2029" for char in name)
    assert clean_name(name) == name


def test_names_of_members_are_cleaned():
    roster = Roster.of(MESH, A.node_id, [admit(A, A, "\x1b[31mred\u202e\nlaptop  of mine")])
    assert roster.members[A.node_id].name == "[31mred laptop of mine"


def crowd(count: int) -> list[SigningKey]:
    return [SigningKey.from_raw(number.to_bytes(32, "big")) for number in range(1000, 1000 + count)]


def test_a_flood_by_or_about_strangers_hides_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(roster_module, "STATEMENTS_MAX", 40)
    honest = [admit(A, A), admit(A, B), admit(B, C), remove(A, B, C)]
    strangers = crowd(60)
    by = [remove(stranger, A) for stranger in strangers]
    about = [remove(C, stranger) for stranger in strangers]
    roster = Roster.of(MESH, A.node_id, [*honest, *by, *about])
    assert set(honest) <= roster.statements
    assert len(roster.statements) == 40
    assert set(roster.members) == ids(A, C)
    assert set(roster.removed) == ids(B), "who was never let in is not removed either"


def test_a_node_that_removes_the_same_one_often_is_heard_once():
    many = [remove(A, B, *crowd(number)) for number in range(1, 30)]
    roster = Roster.of(MESH, A.node_id, [admit(A, A), admit(A, B), *many])
    assert len(roster.statements) == 3
    assert B.node_id in roster.removed


def test_a_roster_always_fits_its_message(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(roster_module, "ROSTER_MAX_BYTES", 20_000)
    subjects, long = crowd(30), crowd(100)
    statements = [admit(A, A), *(admit(A, one) for one in subjects), *(remove(A, one, *long) for one in subjects)]
    roster = Roster.of(MESH, A.node_id, statements)
    assert 10_000 < sum(map(len, roster.to_wire())) <= 20_000
