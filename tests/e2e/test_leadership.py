"""Real daemons lose their leader, their power and a member: what was loaded stands, and who was removed stays out."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemons import Daemon, house
from tests.tiny import write_tiny_llama

pytestmark = pytest.mark.slow

MODEL = "tiny"


@pytest.fixture
def daemons(tmp_path: Path) -> Generator[list[Daemon]]:
    model = write_tiny_llama(tmp_path / "tiny.gguf", layers=6)
    made: list[Daemon] = []
    try:
        made = house(tmp_path, ["kitchen", "office", "attic"], [model])
        yield made
    finally:
        for daemon in made:
            daemon.stop()


def id_of(daemon: Daemon) -> str:
    return daemon.verb("status")["node"]["id"]


def leader_of(daemons: list[Daemon]) -> tuple[Daemon, list[Daemon]]:
    """Who leads, and the others."""
    leader = daemons[0].verb("status")["mesh"]["leader"]
    (first,) = [daemon for daemon in daemons if id_of(daemon) == leader]
    return first, [daemon for daemon in daemons if daemon is not first]


def is_ready(state: dict[str, Any]) -> bool:
    return [one["state"] for one in state["instances"]] == ["ready"]


def test_what_does_not_run_on_a_killed_leader_goes_on_and_a_power_cut_forgets_nothing(daemons: list[Daemon]) -> None:
    leader, (one, other) = leader_of(daemons)
    loaded = one.verb("load", MODEL, "--stages", f"{one.name}:0-3,{other.name}:3-6", "--context", "512")
    dead = id_of(leader)
    leader.kill()
    state = one.until("another leads", lambda state: state["mesh"]["leader"] not in (None, dead) and is_ready(state))
    assert [(each["id"], each["epoch"]) for each in state["instances"]] == [(loaded["id"], loaded["epoch"])]
    assert state["mesh"]["ballot"] > [0, ""]
    assert one.run("chat", MODEL, "hello").returncode == 0
    for daemon in (one, other):
        daemon.kill()
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        daemon.wait()
    again = other.until("it is loaded again", is_ready)
    assert [each["id"] for each in again["instances"]] == [loaded["id"]]
    assert again["instances"][0]["epoch"] != loaded["epoch"]
    assert other.run("chat", MODEL, "hello").returncode == 0


def test_a_leader_that_is_ended_hands_over_and_one_that_is_removed_is_out(daemons: list[Daemon]) -> None:
    leader, (one, other) = leader_of(daemons)
    name, former = leader.name, id_of(leader)
    leader.stop()
    state = one.until("another leads", lambda state: state["mesh"]["leader"] not in (None, former))
    assert {member["id"]: member["state"] for member in state["members"]}[former] == "gone"
    one.verb("remove", name)
    other.until("it is out", lambda state: former not in {member["id"] for member in state["members"]})
    leader.start()
    leader.wait()
    lonely = leader.until("it leads itself", lambda state: state["mesh"]["leader"] == former)
    assert {member["id"] for member in lonely["members"] if member["state"] == "alive"} == {former}
    assert one.verb("status")["mesh"]["leader"] != former
    assert other.verb("load", MODEL, "--min-nodes", "2", "--context", "512")["state"] == "ready"
