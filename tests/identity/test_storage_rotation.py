"""The mesh's CA on disk: made anew with a removal, taken over from members, and whole with the roster."""

from __future__ import annotations

import shutil
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from peerinfer.errors import NotTrusted, PairingError, RotationsUsedUp
from peerinfer.identity import authority as authority_module
from peerinfer.identity import membership as membership_module
from peerinfer.identity.keys import SigningKey
from peerinfer.identity.roster import Remove, Statement
from peerinfer.identity.storage import Identity, TrustNews
from peerinfer.identity.succession import Generation
from tests.identity.test_storage import facts, join, meet

Trio = tuple[Identity, Identity, Identity]


@pytest.fixture
def trio(tmp_path: Path) -> Trio:
    desk, lap, mini = (Identity.open(tmp_path / name, name) for name in ("desk", "lap", "mini"))
    join(lap, desk)
    join(mini, desk)
    lap.merge_statements(desk.roster.to_wire())
    return desk, lap, mini


def test_removal_makes_a_new_ca_that_members_take_over(tmp_path: Path, trio: Trio):
    desk, lap, mini = trio
    first, files_before = desk.authority, desk.tls_files
    desk.remove(mini.node_id)
    assert desk.authority.generation == Generation(2, desk.node_id)
    assert desk.authority.standing.covers == {mini.node_id}
    assert desk.hint_secrets == (desk.authority.hint_secret, first.hint_secret)
    assert desk.tls_files != files_before
    assert not files_before.key.exists()
    with pytest.raises(NotTrusted, match="not given"):
        desk.give_authority(mini.node_id)
    assert meet(desk, lap) == TrustNews(True, True, "")
    assert meet(desk, lap) == TrustNews(False, False, "")
    for identity in (lap, Identity.open(tmp_path / "lap")):
        assert identity.authority.standing == desk.authority.standing
        assert not identity.roster.is_member(mini.node_id)
        assert identity.authority.vouches_for(leaf_of(identity), identity.public_key)
    assert len(list((tmp_path / "lap").rglob(f"{lap.mesh_id}*/ca.key"))) == 1


def leaf_of(identity: Identity) -> bytes:
    return ssl.PEM_cert_to_DER_cert(identity.tls_files.certificate.read_text().split("-----\n-----")[0] + "-----\n")


def test_a_removed_nodes_ca_is_refused_where_that_is_known(trio: Trio):
    desk, lap, mini = trio
    desk.remove(mini.node_id)
    mini.remove(lap.node_id)  # what it made with the CA key that it had
    held = desk.authority.standing
    news = desk.take_authority(mini.authority.to_parts(), mini.roster.to_wire())
    assert (news.authority, "was removed" in news.refusal) == (False, True)
    assert desk.authority.standing == held


def test_a_removed_makers_ca_gives_way_once_the_removal_is_known(trio: Trio):
    desk, lap, mini = trio
    ghost = SigningKey.create()
    desk.remove(mini.node_id)
    mini.merge_statements(mini.roster.admitting(mini._membership.key, ghost.public_key, "ghost").to_wire())
    mini.remove(ghost.node_id)
    mini.remove(desk.node_id)
    assert meet(mini, lap).authority
    assert lap.authority.generation == Generation(3, mini.node_id)
    assert lap.authority.standing.covers >= {ghost.node_id}
    news = lap.take_authority(desk.authority.to_parts(), desk.roster.to_wire())
    assert news.authority is False  # mini removed desk, and a removal stands for ever
    assert not lap.roster.is_member(mini.node_id)
    lap.rotate()
    assert lap.authority.generation == Generation(4, lap.node_id)
    assert lap.authority.standing.covers == lap.roster.removed


def test_a_lower_ca_of_a_member_replaces_one_of_a_removed_maker(trio: Trio):
    desk, lap, mini = trio
    ghost = SigningKey.create()
    for identity in (desk, mini):
        identity.merge_statements(desk.roster.admitting(desk._membership.key, ghost.public_key, "g").to_wire())
    mini.remove(ghost.node_id)
    meet(mini, lap)
    desk.remove(mini.node_id)
    assert lap.authority.generation == Generation(2, mini.node_id)
    assert meet(desk, lap) == TrustNews(True, True, "")
    assert lap.authority.generation == Generation(2, desk.node_id)


def test_a_ca_whose_removals_are_not_proven_changes_nothing(trio: Trio):
    desk, lap, mini = trio
    desk.remove(mini.node_id)
    before = facts(lap)
    news = lap.take_authority(desk.give_authority(lap.node_id), ())
    assert (news.authority, "no statement" in news.refusal) == (False, True)
    news = lap.take_authority(replace(desk.give_authority(lap.node_id), rotation=b""), ())
    assert (news.authority, "statement" in news.refusal) == (False, True)
    assert facts(lap) == before


def test_a_removed_node_takes_nothing_over(trio: Trio):
    desk, _, mini = trio
    desk.remove(mini.node_id)
    news = mini.take_authority(desk.authority.to_parts(), desk.roster.to_wire())
    assert news == TrustNews(True, False, "this node was removed from the mesh")
    assert mini.authority.generation.counter == 1


def test_a_farewell_makes_no_ca(trio: Trio):
    desk, _, mini = trio
    mini.remove(mini.node_id)
    assert mini.authority.generation.counter == 1
    assert desk.merge_statements(mini.roster.to_wire())
    desk.rotate()
    assert desk.authority.standing.covers == {mini.node_id}


def test_a_newcomer_gets_the_ca_of_today(tmp_path: Path, trio: Trio):
    desk, _, mini = trio
    desk.remove(mini.node_id)
    late = Identity.open(tmp_path / "late")
    join(late, desk)
    assert late.authority.standing == desk.authority.standing
    assert late.mesh_id == desk.mesh_id
    assert Identity.open(tmp_path / "late").authority.standing == desk.authority.standing
    other = Identity.open(tmp_path / "other")
    admission = desk.admit(other.request_certificate(desk.mesh_id))
    kept = tuple(data for data in admission.statements if not isinstance(Statement.from_bytes(data).claim, Remove))
    with pytest.raises(PairingError, match="lacks removals"):
        other.adopt_admission(replace(admission, statements=kept), desk.mesh_id)


def test_a_removal_stands_though_no_ca_can_follow(trio: Trio, monkeypatch: pytest.MonkeyPatch):
    desk, _, mini = trio
    monkeypatch.setattr(authority_module, "ROTATIONS_MAX", 0)
    desk.remove(mini.node_id)
    assert not desk.roster.is_member(mini.node_id)
    assert desk.authority.generation.counter == 1
    with pytest.raises(RotationsUsedUp):
        desk.rotate()


def test_hints_of_former_cas_are_kept_within_a_limit(trio: Trio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(membership_module, "FORMER_HINTS_MAX", 2)
    desk, _, mini = trio
    secrets = [desk.authority.hint_secret]
    desk.remove(mini.node_id)
    for _ in range(3):
        secrets.insert(0, desk.authority.hint_secret)
        desk.rotate()
    secrets.insert(0, desk.authority.hint_secret)
    assert desk.hint_secrets == Identity.open(tmp_path / "desk").hint_secrets == tuple(secrets[:3])


def test_a_former_ca_that_cannot_be_deleted_goes_at_the_next_start(
    trio: Trio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    desk, _, mini = trio

    def fail(path: Path) -> None:
        raise PermissionError("in use")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fail)
        desk.remove(mini.node_id)
    assert len(list((tmp_path / "desk").rglob("ca.key"))) == 2
    assert facts(Identity.open(tmp_path / "desk")) == facts(desk)
    assert len(list((tmp_path / "desk").rglob("ca.key"))) == 1
