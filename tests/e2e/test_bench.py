"""`bench` through real daemons and engines: figures that are there, kept, and told to the mesh."""

from __future__ import annotations

import json
from collections.abc import Generator

import pytest

from tests.e2e.daemons import Daemon, house
from tests.tiny import write_tiny_llama

pytestmark = pytest.mark.slow


@pytest.fixture
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Generator[list[Daemon]]:
    folder = tmp_path_factory.mktemp("house")
    made = house(folder, ["desk", "lap"], [write_tiny_llama(folder / "tiny.gguf", layers=6)])
    yield made
    for daemon in made:
        daemon.stop()


def test_bench_measures_this_machine_then_the_mesh_and_keeps_the_figures(daemons: list[Daemon]) -> None:
    desk, _ = daemons
    alone = desk.verb("bench", "tiny")
    assert (alone["model"], alone["mesh"], alone["machine"]["layers"]) == ("tiny", None, [0, 6])
    assert alone["machine"]["tokens_per_s"] > 0
    kept = json.loads((desk.home / "calibration.json").read_text())
    assert [figure["kind"]["architecture"] for figure in kept["figures"]] == ["llama"]
    desk.verb("load", "tiny", "--min-nodes", "2", "--context", "256", "--slots", "1")
    desk.until("both told their speed", lambda state: state["instances"][0]["state"] == "ready")
    both = desk.verb("bench")
    assert len(both["mesh"]["stages"]) == 2
    assert both["mesh"]["measured"]["tokens_per_s"] > 0
    shown = desk.verb("status")["instances"][0]
    assert shown["measured"]["tokens_per_s"] > 0
