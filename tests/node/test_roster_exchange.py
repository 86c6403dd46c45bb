"""Roster and CA stay the same on all members: real links on 127.0.0.1, time given by hand."""

from __future__ import annotations

import asyncio
import itertools
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from peerinfer.identity import authority as authority_module
from peerinfer.identity.keys import SigningKey
from peerinfer.identity.storage import Identity
from peerinfer.identity.succession import COVER_DELAY_S, Generation
from peerinfer.net.authority_messages import AuthorityHeld, RotatedAuthority
from peerinfer.net.roster_message import RosterStatements
from peerinfer.net.tls import MeshTrust
from peerinfer.node import roster_exchange as roster_exchange_module
from peerinfer.node.roster_exchange import RosterExchange
from tests.net.mesh import Node, mesh_of, until


class Member:
    """A node of a home as `node/session.py` wires it, as far as trust goes."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        trust = MeshTrust(identity)
        self.node = Node(trust)
        self.changes = 0
        self.exchange = RosterExchange(identity, self.node.board, self._changed)
        trust.on_news = self.exchange.heard
        self.got: list[object] = []
        for kind in (RotatedAuthority, AuthorityHeld, RosterStatements):
            self.node.board.on(kind, lambda _, message: self.got.append(message))

    def _changed(self) -> None:
        self.changes += 1

    @property
    def id(self) -> str:
        return self.identity.node_id

    @property
    def generation(self) -> Generation:
        return self.identity.authority.generation

    def holds_that_of(self, other: Member) -> bool:
        return self.identity.authority.standing == other.identity.authority.standing

    def remove(self, other: Member) -> None:
        """As `node/actions.py` does it."""
        self.identity.remove(other.id)
        self.exchange.tell_all()


Trio = tuple[Member, Member, Member]


@pytest.fixture
def trio(tmp_path: Path) -> Trio:
    """Three members, in order of their ids."""
    made = [Identity.open(tmp_path / name, name) for name in ("a", "b", "c")]
    for newcomer in made[1:]:
        newcomer.adopt_admission(made[0].admit(newcomer.request_certificate(made[0].mesh_id)), made[0].mesh_id)
    for each in made:
        each.merge_statements(made[0].roster.to_wire())
    a, b, c = (Member(identity) for identity in sorted(made, key=lambda identity: identity.node_id))
    return a, b, c


async def link(one: Member, other: Member) -> None:
    assert await one.node.connector.dial(other.node.address) == other.id
    await until(lambda: one.node.board.is_connected(other.id) and other.node.board.is_connected(one.id))


async def link_all(a: Member, b: Member, c: Member) -> None:
    for one, other in ((a, b), (b, c), (a, c)):
        await link(one, other)


async def test_a_removal_gives_the_new_ca_to_those_who_stay_and_to_nobody_else(trio: Trio):
    a, b, c = trio
    async with mesh_of(a.node, b.node, c.node):
        await link_all(a, b, c)
        a.remove(c)
        await until(lambda: b.holds_that_of(a) and not b.node.board.is_connected(c.id))
        await until(lambda: not a.node.board.is_connected(c.id))
        assert a.generation == Generation(2, a.id)
        assert a.node.board.is_connected(b.id)  # the link that was there stays
        assert c.generation.counter == 1
        assert not [message for message in c.got if isinstance(message, RotatedAuthority)]
        assert b.changes


async def test_the_news_travels_over_members_who_have_no_link_with_the_remover(trio: Trio):
    a, b, c = trio
    ghost = SigningKey.create()
    roster = a.identity.roster.admitting(a.identity._membership.key, ghost.public_key, "ghost")
    for member in trio:
        member.identity.merge_statements(roster.to_wire())
    async with mesh_of(a.node, b.node, c.node):
        await link(a, b)
        await link(b, c)
        a.identity.remove(ghost.node_id)
        a.exchange.tell_all()
        await until(lambda: c.holds_that_of(a))


async def test_a_renewal_while_connecting_is_passed_on(trio: Trio):
    a, b, c = trio
    ghost = SigningKey.create()
    roster = a.identity.roster.admitting(a.identity._membership.key, ghost.public_key, "ghost")
    for member in trio:
        member.identity.merge_statements(roster.to_wire())
    async with mesh_of(a.node, b.node, c.node):
        await link(b, c)
        a.identity.remove(ghost.node_id)
        await link(a, b)
        await until(lambda: c.holds_that_of(a))
        assert b.holds_that_of(a)


async def test_a_ca_that_came_while_a_link_was_made_is_asked_for(trio: Trio):
    a, b, c = trio
    async with mesh_of(a.node, b.node):
        await link(a, b)
        a.identity.remove(c.id)  # as if `a` had heard it just before the link was there: nobody is told
        a.node.board.send(b.id, RosterStatements(a.identity.roster.to_wire()))
        b.node.board.send(a.id, AuthorityHeld(b.identity.authority.standing.digest))
        await until(lambda: b.holds_that_of(a))
        before = len(b.got)
        a.node.board.send(b.id, AuthorityHeld(a.identity.authority.standing.digest))
        b.node.board.send(a.id, AuthorityHeld(a.identity.authority.standing.digest))
        await until(lambda: len(b.got) > before and isinstance(a.got[-1], AuthorityHeld))
        assert not any(isinstance(message, RotatedAuthority) for message in b.got[before:])


async def test_a_farewell_makes_the_first_member_rotate(trio: Trio):
    a, b, c = trio
    async with mesh_of(a.node, b.node, c.node):
        await link_all(a, b, c)
        c.remove(c)
        await until(lambda: not a.node.board.is_connected(c.id) and not b.node.board.is_connected(c.id))
        for now in (0.0, COVER_DELAY_S / 2):
            a.exchange.tick(now)
            b.exchange.tick(now)
        assert a.generation == b.generation
        a.exchange.tick(COVER_DELAY_S)
        await until(lambda: b.holds_that_of(a))
        b.exchange.tick(10 * COVER_DELAY_S)
        assert a.generation == b.generation == Generation(2, a.id)
        assert a.identity.authority.standing.covers == {c.id}


async def test_the_duty_looks_again_and_again(trio: Trio, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(roster_exchange_module, "TICK_S", 0.0)
    a, b, c = trio
    times = itertools.count(0.0, COVER_DELAY_S)
    exchange = RosterExchange(a.identity, a.node.board, lambda: None, lambda: next(times))
    async with mesh_of(a.node, b.node):
        await link(a, b)
        a.identity.merge_statements(b.identity.roster.removing(b.identity._membership.key, c.id).to_wire())
        duty = asyncio.create_task(exchange.run())
        await until(lambda: a.generation == Generation(2, a.id))
        duty.cancel()
        await asyncio.gather(duty, return_exceptions=True)


async def test_two_halves_that_each_removed_somebody_end_with_one_ca(trio: Trio):
    a, b, _ = trio
    ghosts = [SigningKey.create() for _ in range(2)]
    roster = a.identity.roster
    for ghost in ghosts:
        roster = roster.admitting(a.identity._membership.key, ghost.public_key, "ghost")
    for member in (a, b):
        member.identity.merge_statements(roster.to_wire())
    async with mesh_of(a.node, b.node):
        a.identity.remove(ghosts[0].node_id)
        b.identity.remove(ghosts[1].node_id)
        await link(a, b)
        assert a.holds_that_of(b)
        a.exchange.tick(0.0)
        a.exchange.tick(COVER_DELAY_S)
        await until(lambda: b.holds_that_of(a))
        assert a.generation == Generation(3, a.id)
        assert a.identity.authority.standing.covers == {ghost.node_id for ghost in ghosts} == a.identity.roster.removed


async def test_a_ca_that_does_not_hold_changes_nothing(trio: Trio, caplog: pytest.LogCaptureFixture):
    a, b, c = trio
    a.identity.remove(c.id)
    parts = replace(a.identity.give_authority(b.id), rotation=b"garbage")
    b.node.board.take_message(a.id, RotatedAuthority(parts, a.identity.roster.to_wire()))
    assert "was not taken over" in caplog.text
    assert b.generation.counter == 1
    assert not b.identity.roster.is_member(c.id)  # each statement is judged by itself
    b.node.board.take_message(c.id, RotatedAuthority(a.identity.give_authority(b.id), ()))
    assert b.generation.counter == 1  # not from a removed node, whatever it holds


async def test_the_last_ca_is_told_once(trio: Trio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    a, b, c = trio
    monkeypatch.setattr(authority_module, "ROTATIONS_MAX", 0)
    a.identity.remove(c.id)
    a.identity.remove(b.id)
    caplog.set_level(logging.WARNING)
    for now in (0.0, COVER_DELAY_S, 2 * COVER_DELAY_S):
        a.exchange.tick(now)
    assert caplog.text.count("make a new mesh") == 1
    assert a.changes == 0
