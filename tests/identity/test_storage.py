"""The identity on disk: made once, kept private, and whole after any crash."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from peerinfer.errors import HomeError, HomeNotOurs, PairingError
from peerinfer.identity import files
from peerinfer.identity import membership as membership_module
from peerinfer.identity.admission import Admission
from peerinfer.identity.keys import SigningKey
from peerinfer.identity.storage import Identity, TrustNews
from peerinfer.identity.succession import Generation
from peerinfer.packing import pack

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no owner and mode of this kind")


def join(newcomer: Identity, inviter: Identity) -> None:
    """What a pairing does, without the wire."""
    admission = inviter.admit(newcomer.request_certificate(inviter.mesh_id))
    newcomer.adopt_admission(Admission.from_bytes(admission.to_bytes()), inviter.mesh_id)


def facts(identity: Identity) -> tuple[object, ...]:
    return identity.node_id, identity.mesh_id, identity.roster, identity.authority.standing, identity.hint_secrets


def test_it_is_made_once(tmp_path: Path):
    first = Identity.open(tmp_path / "home", "desk")
    again = Identity.open(tmp_path / "home")
    assert facts(again) == facts(first)
    assert (again.name, again.is_alone) == ("desk", True)
    assert first.roster.members[first.node_id].name == "desk"
    assert Identity.open(tmp_path / "home", "a\x07b").name == Identity.open(tmp_path / "home").name == "ab"


@unix_only
def test_nobody_else_may_read(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    Identity.open(home)
    assert home.stat().st_mode & 0o777 == 0o700
    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in sorted(home.rglob("*"))}
    assert modes == {True: 0o700, False: 0o600}
    assert all(path.stat().st_mode & 0o077 == 0 for path in home.rglob("*"))


@unix_only
def test_a_home_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(HomeNotOurs, match=r"another user.*--home"):
        Identity.open(tmp_path)
    assert not (tmp_path / "identity" / "current").exists()


def test_a_home_below_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="cannot be made"):
        Identity.open(tmp_path / "file" / "home")


@pytest.mark.parametrize("name", ["node.key", "ca.key", "chain.pem", "founding.pem", "rotation", "roster"])
@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_file_gets_a_sentence(tmp_path: Path, name: str, damage: bytes | None):
    Identity.open(tmp_path)
    path = next((tmp_path / "identity").rglob(name))
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(HomeError, match="backup"):
        Identity.open(tmp_path)


@pytest.mark.parametrize("content", [[b""], [None, []], [b"", None], [b"", ["text"]], [b"", [b"secret"] * 17]])
def test_a_rotation_file_of_another_form_gets_a_sentence(tmp_path: Path, content: object):
    Identity.open(tmp_path)
    next((tmp_path / "identity").rglob("rotation")).write_bytes(pack(content))
    with pytest.raises(HomeError, match="backup"):
        Identity.open(tmp_path)


def test_joining_moves_and_archives(tmp_path: Path):
    desk, lap = Identity.open(tmp_path / "desk", "desk"), Identity.open(tmp_path / "lap", "lap")
    node, old_files = lap.node_id, lap.tls_files
    join(lap, desk)
    for identity in (lap, Identity.open(tmp_path / "lap")):
        assert facts(identity)[:3] == (node, desk.mesh_id, desk.roster)
        assert {member.name for member in identity.roster.members.values()} == {"desk", "lap"}
    assert old_files.authority.exists()
    assert lap.tls_files != old_files


def test_every_member_can_invite_and_remove(tmp_path: Path):
    desk, lap, mini = (Identity.open(tmp_path / name, name) for name in ("desk", "lap", "mini"))
    join(lap, desk)
    join(mini, lap)
    assert desk.merge_statements(mini.roster.to_wire())
    assert not desk.merge_statements(mini.roster.to_wire())
    assert len(desk.roster.members) == 3
    mini.remove(lap.node_id)
    assert desk.merge_statements(mini.roster.to_wire())
    for identity in (desk, Identity.open(tmp_path / "desk")):
        assert set(identity.roster.members) == {desk.node_id, mini.node_id}
    with pytest.raises(PairingError, match="No member"):
        desk.remove(lap.node_id)


def test_grown_meshes_do_not_merge(tmp_path: Path):
    desk, lap, mini = (Identity.open(tmp_path / name) for name in ("desk", "lap", "mini"))
    join(lap, desk)
    before = facts(lap)
    with pytest.raises(PairingError, match=r"1 other,.*peerinfer leave"):
        join(lap, mini)
    assert facts(lap) == facts(Identity.open(tmp_path / "lap")) == before


def test_removed_is_for_ever_but_leave_begins_anew(tmp_path: Path):
    desk, lap = Identity.open(tmp_path / "desk"), Identity.open(tmp_path / "lap", "lap")
    join(lap, desk)
    desk.remove(lap.node_id)
    with pytest.raises(PairingError, match="removed"):
        desk.admit(lap.request_certificate(desk.mesh_id))
    node, left = lap.node_id, lap.tls_files
    lap.leave()
    assert lap.is_alone
    assert lap.node_id != node
    assert not left.key.exists()
    assert facts(Identity.open(tmp_path / "lap")) == facts(lap)
    join(lap, desk)
    assert lap.node_id in desk.roster.members


def test_a_node_that_knows_it_was_removed_may_join_elsewhere_or_leave(tmp_path: Path):
    desk, lap, other = (Identity.open(tmp_path / name, name) for name in ("desk", "lap", "other"))
    join(lap, desk)
    assert not lap.is_alone
    desk.remove(lap.node_id)
    lap.merge_statements(desk.roster.to_wire())
    assert lap.is_removed
    join(lap, other)
    assert (lap.mesh_id, lap.is_removed) == (other.mesh_id, False)


def test_no_private_key_is_left_of_a_mesh_that_was_left(tmp_path: Path):
    desk, lap = (Identity.open(tmp_path / name, name) for name in ("desk", "lap"))
    join(lap, desk)
    lap.leave()
    keys = sorted(path.parent.name for path in (tmp_path / "lap").rglob("*.key*") if path.parent.name != "lap")
    assert set(keys) == {lap.tls_files.key.parent.name}


def test_a_removal_counts_though_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    desk, lap = (Identity.open(tmp_path / name, name) for name in ("desk", "lap"))
    join(lap, desk)
    third = SigningKey.create()
    told = desk.roster.admitting(desk._membership.key, third.public_key, "x").removing(
        desk._membership.key, third.node_id
    )

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(membership_module, "write_private", full)
    assert lap.merge_statements(told.to_wire())
    assert third.node_id in lap.roster.removed
    assert "No space left" in caplog.text
    lap.save()
    monkeypatch.undo()
    lap.save()
    assert third.node_id in Identity.open(tmp_path / "lap").roster.removed


def test_joining_again_after_a_broken_attempt(tmp_path: Path):
    desk, lap = Identity.open(tmp_path / "desk"), Identity.open(tmp_path / "lap")
    desk.admit(lap.request_certificate(desk.mesh_id))
    join(lap, desk)
    assert len(desk.roster.statements) == 2


def test_an_admission_must_hold_together(tmp_path: Path):
    desk, lap, mini = (Identity.open(tmp_path / name) for name in ("desk", "lap", "mini"))
    good = desk.admit(lap.request_certificate(desk.mesh_id))
    other = mini.admit(lap.request_certificate(mini.mesh_id))
    before = facts(lap)
    for bad, mesh_id in (
        (good, mini.mesh_id),
        (replace(good, leaf=other.leaf), desk.mesh_id),
        (replace(good, authority=other.authority), desk.mesh_id),
        (replace(good, authority=replace(good.authority, key=b"short")), desk.mesh_id),
        (replace(good, founding=other.founding), desk.mesh_id),
        (replace(good, statements=good.statements[:0]), desk.mesh_id),
        (replace(good, statements=other.statements), desk.mesh_id),
        (replace(good, authority=replace(good.authority, chain=(b"garbage",))), desk.mesh_id),
    ):
        with pytest.raises(PairingError):
            lap.adopt_admission(bad, mesh_id)
    assert facts(lap) == facts(Identity.open(tmp_path / "lap")) == before
    for data in (b"", b"\x90", good.to_bytes()[:-1], good.to_bytes() + b"\0"):
        with pytest.raises(ValueError, match=r"."):
            Admission.from_bytes(data)


def meet(giver: Identity, taker: Identity) -> TrustNews:
    """What a renewal does, without the wire."""
    return taker.take_authority(giver.give_authority(taker.node_id), giver.roster.to_wire())


class PowerCut(BaseException):
    """The machine stops here: nothing after it runs."""


def cut_power_at(write: int, after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops the machine just before, or just after, the replace of the write of that number."""
    real = os.replace
    writes = itertools.count(1)

    def replace_or_stop(source: str, target: str) -> None:
        stops = next(writes) == write
        if stops and not after:
            raise PowerCut
        real(source, target)
        if stops:
            raise PowerCut

    monkeypatch.setattr(files.os, "replace", replace_or_stop)


@pytest.mark.parametrize("after", [False, True], ids=["before replace", "after replace"])
@pytest.mark.parametrize("verb", ["adopt", "leave", "merge", "remove", "renew"])
def test_a_crash_at_any_write_leaves_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, after: bool
):
    desk, lap, mini = (Identity.open(tmp_path / name) for name in ("desk", "lap", "mini"))
    if verb in ("remove", "renew"):
        join(lap, desk)
        join(mini, desk)
        lap.merge_statements(desk.roster.to_wire())
        desk.remove(mini.node_id)
    old = facts(lap)
    grown = lap.roster.removing(SigningKey.create(), "ab" * 16)
    act: dict[str, Callable[[Identity], object]] = {
        "leave": Identity.leave,
        "merge": lambda identity: identity.merge_statements(grown.to_wire()),
        "remove": lambda identity: identity.remove(mini.node_id),
        "renew": lambda identity: meet(desk, identity),
    }
    if verb == "adopt":
        admission = desk.admit(lap.request_certificate(desk.mesh_id))
        act["adopt"] = lambda identity: identity.adopt_admission(admission, desk.mesh_id)
    for write in itertools.count(1):
        home = shutil.copytree(tmp_path / "lap", tmp_path / f"lap{write}")
        identity = Identity.open(home)
        with monkeypatch.context() as patch:
            cut_power_at(write, after, patch)
            try:
                act[verb](identity)
                finished = True
            except PowerCut:
                finished = False
        again = Identity.open(home)  # which also checks that everything in it belongs together
        found = facts(again)
        if finished:
            assert found == facts(identity) != old
            assert write > {"merge": 1}.get(verb, 7)
            return
        assert found == old or is_new(verb, again, lap, desk)
        keys = list((home / "identity").glob(f"{again.mesh_id}-{again.node_id}-*/ca.key"))
        assert keys == [again.tls_files.key.parent / "ca.key"]


def is_new(verb: str, again: Identity, lap: Identity, desk: Identity) -> bool:
    """Whether a node came out of a crash with everything that the act changes."""
    match verb:
        case "leave":
            return again.is_alone and again.node_id != lap.node_id
        case "adopt":
            return again.roster == desk.roster and again.authority.standing == desk.authority.standing
        case "renew":
            return again.authority.standing == desk.authority.standing and len(again.roster.removed) == 1
        case "remove":
            return again.authority.generation == Generation(2, lap.node_id) and len(again.roster.removed) == 1
        case _:
            return len(again.roster.statements) == len(lap.roster.statements) + 1
