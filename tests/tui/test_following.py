"""The daemon comes, goes, restarts and changes: the terminal follows, and says so."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from peerinfer.api.record import DaemonRecord, write_record
from peerinfer.control.events import InstancesChanged, LeaderChanged, MemberChanged
from peerinfer.control.state import Liveness
from tests.tui.conftest import Office, settle
from tests.tui.fake_daemon import FakeDaemon
from tests.tui.scenes import OLD, five_nodes, one_node
from tui.daemon import start_daemon
from tui.feed import Contact
from tui.screens.mesh import MeshScreen
from tui.widgets.graph import MeshGraph


async def test_changes_are_shown_and_told(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        await seat.sees("● bedroom-pc")
        seat.daemon.tell(MemberChanged(OLD, "bedroom-pc", Liveness.UNREACHABLE), LeaderChanged(None, None))
        await seat.sees("◐ bedroom-pc", "no answer", "bedroom-pc does not answer.", "Nobody leads the mesh.")
        seat.daemon.tell(InstancesChanged(()))
        await seat.sees("No model is loaded", "qwen3:4b was unloaded.")


async def test_a_daemon_that_restarts_is_followed(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        await seat.sees("● bedroom-pc")
        await seat.daemon.stop()
        await seat.sees("the node does not answer", "● bedroom-pc")
        again = FakeDaemon(office.folder, replace(five_nodes(), leader=None, ballot=None))
        async with again:
            await seat.sees("live", "nobody leads", "The node answers again.")
            again.tell(MemberChanged(OLD, "bedroom-pc", Liveness.GONE))
            await seat.sees("○ bedroom-pc")


async def test_a_stream_that_breaks_begins_anew(office: Office) -> None:
    async with office.seat(one_node()) as seat:
        await seat.sees("desk")
        for reader in seat.daemon.readers:
            reader._cut()
        await seat.until(lambda: seat.app.contact.contact is not Contact.LIVE)
        await seat.until(lambda: seat.app.contact.contact is Contact.LIVE)


async def test_several_terminals_see_the_same(office: Office) -> None:
    async with office.seat(five_nodes()) as seat, office.alone() as other:
        seat.daemon.tell(LeaderChanged(None, None))
        for each in (seat, other):
            await each.sees("nobody leads")
        assert seat.app.view.state == other.app.view.state


async def test_without_a_node_s_starts_one(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async with office.alone() as seat:
        await seat.sees("No peerinfer daemon runs on", "s starts it")
        monkeypatch.setattr(start_daemon, "__defaults__", ((), says("The node is up.", 0)))
        await seat.press("s")
        await seat.sees("The node is up.")
        async with FakeDaemon(office.folder, one_node()):
            await seat.misses("s starts it")
            await seat.sees("desk leads")


async def test_a_start_that_fails_says_why(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async with office.alone() as seat:
        await seat.sees("s starts it")
        monkeypatch.setattr(
            start_daemon,
            "__defaults__",
            (
                (),
                says("peerinfer: Port 8643 is taken.", 1),
            ),
        )
        await seat.press("s")
        await seat.sees("│ Port 8643 is taken.")
        monkeypatch.setattr(
            start_daemon,
            "__defaults__",
            (
                (),
                ("/no/such/program",),
            ),
        )
        await seat.press("s")
        await seat.sees("The node cannot be started")


async def test_without_a_node_q_leaves_at_once(office: Office) -> None:
    async with office.alone() as seat:
        await seat.sees("s starts it")
        await seat.press("q")
        await seat.until(lambda: not seat.app.is_running)


async def test_another_version_is_told_and_may_be_taken_as_it_is(office: Office) -> None:
    async with office.seat(one_node(), version="9.9.9") as seat:
        await seat.sees("runs version 9.9.9 of peerinfer", "r stops it")
        await seat.press("c")
        await seat.misses("r stops it")
        await seat.sees("live", "desk leads")


async def test_what_lies_under_a_dialog_is_drawn_though_it_was_held_up(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.app.BEAT_S", 60.0)
    async with office.seat(five_nodes(), version="0.0.1") as seat:
        await seat.sees("runs version 0.0.1")
        await settle(seat)
        seat.app.on_mesh_changed()
        await seat.sees("kitchen-l… ★12")
        below = seat.app.screen_stack[0]
        assert isinstance(below, MeshScreen)
        below.query_one(MeshGraph).show([])
        await seat.misses("kitchen-l… ★12")
        with seat.app.batch_update():  # as the keys at the bottom do, when they change
            below.mesh_changed()
            await seat.pilot.pause(0.1)  # its timer finds that nothing may be drawn now, and does not come again
        await seat.pilot.pause(0.1)
        assert "kitchen-l… ★12" not in seat.screen
        seat.app.on_mesh_changed()
        await seat.sees("kitchen-l… ★12")


async def test_another_version_may_be_restarted(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async with office.seat(one_node(), version="9.9.9") as seat:
        await seat.sees("r stops it")
        monkeypatch.setattr(start_daemon, "__defaults__", ((), says("The node is up.", 0)))
        await seat.press("r")
        await seat.until(seat.daemon.node.stopping.is_set)
        await seat.daemon.stop()
        await seat.sees("The node is up.")
        async with FakeDaemon(office.folder, one_node()):
            await seat.misses("The node is up.")
            await seat.sees("live")


async def test_something_else_at_the_address_is_no_node(office: Office) -> None:
    write_record(office.folder, DaemonRecord(os.getpid(), "127.0.0.1:9", "aa" * 16, "0.1.0"))
    (office.folder / "token").write_text("5e" * 32)
    async with office.alone() as seat:
        await seat.sees("No peerinfer daemon answers at 127.0.0.1:9.")


def says(text: str, code: int) -> tuple[str, ...]:
    """A command that says something and ends; it stands for `peerinfer up --background`."""
    return (sys.executable, "-c", f"import sys; print({text!r}); sys.exit({code})")


async def test_starting_gives_the_home_to_the_command(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text("import sys; print(sys.argv[1:])")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    said = await start_daemon(tmp_path, ("--name=x",), (sys.executable, str(script)))
    assert said == str(["--home", str(tmp_path), "--name=x"])


async def test_a_version_that_cannot_be_understood_is_told_as_one(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peerinfer.api.events.encode_state", lambda _state: '{"another": "shape"}')
    async with FakeDaemon(office.folder, one_node(), "9.9.9"), office.alone() as seat:
        await seat.sees("runs version 9.9.9 of peerinfer", "r stops it and starts it anew in this version")


async def test_a_node_that_cannot_be_followed_is_not_called_absent(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.feed.PATIENCE_S", 0.5)
    monkeypatch.setattr("peerinfer.api.events.encode_state", lambda _state: '{"another": "shape"}')
    async with FakeDaemon(office.folder, one_node()), office.alone() as seat:
        await seat.sees("the node cannot be followed", "ClusterState.node is missing", "r stops it and starts it anew;")
