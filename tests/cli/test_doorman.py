"""`invite --confirm`: what is asked on the terminal, and what becomes of each answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import TextIOWrapper

import pytest

from peerinfer.api.actions import Asking
from tests.cli.conftest import Daemon

Capture = pytest.CaptureFixture[str]
LAP, DESK = Asking("dd" * 16, "kitchen-laptop"), Asking("ee" * 16, "")
QUESTION = "kitchen-laptop (dddddddd) knows the digits. Let it in? [y/N] "


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIOWrapper]:
    """What is written here is typed."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "w") as typed:
        monkeypatch.setattr("sys.stdin", stdin)
        yield typed


def test_a_yes_lets_in(daemon: Daemon, typing: TextIOWrapper, capsys: Capture) -> None:
    daemon.node.asking = [LAP, DESK]
    daemon.node.joiner.set()
    typing.write("n\n Yes\n")
    typing.flush()
    assert daemon.run("invite", "--confirm") == 0
    assert daemon.node.confirm
    assert daemon.node.answers == [(LAP.node, False), (DESK.node, True)]
    told = capsys.readouterr()
    assert QUESTION in told.err
    assert "kitchen-laptop was not let in; the invitation stays open.\n" in told.err
    assert "A machine (eeeeeeee) knows the digits. Let it in? [y/N] " in told.err
    assert told.out.endswith("lap (dddddddd) has joined the mesh.\n")


@pytest.mark.parametrize(("typed", "accepts"), [("y\n", True), ("\n", False), ("maybe\n", False), ("", False)])
def test_only_a_yes_is_one_and_a_closed_stdin_is_none(
    daemon: Daemon, typing: TextIOWrapper, typed: str, accepts: bool, capsys: Capture
) -> None:
    daemon.node.asking = [LAP, DESK]  # the second finds stdin closed in any case
    daemon.node.joiner.set()
    typing.write(typed)
    typing.close()
    assert daemon.run("invite", "--confirm") == 0
    assert daemon.node.answers == [(LAP.node, accepts), (DESK.node, False)]
    assert ("kitchen-laptop was not let in" in capsys.readouterr().err) != accepts


def test_a_question_that_is_taken_back_is_not_answered(daemon: Daemon, typing: TextIOWrapper, capsys: Capture) -> None:
    daemon.node.asking = [LAP, None]
    daemon.node.invite_expires = True
    assert daemon.run("invite", "--confirm") == 1
    assert daemon.node.answers == []
    told = capsys.readouterr().err
    assert f"{QUESTION}\nkitchen-laptop waits no longer.\n" in told
    assert "Nobody joined" in told
    assert typing.writable()


def test_without_confirm_nobody_is_asked(daemon: Daemon, capsys: Capture) -> None:
    daemon.node.joiner.set()
    assert daemon.run("invite") == 0
    assert not daemon.node.confirm
    assert "[y/N]" not in capsys.readouterr().err
