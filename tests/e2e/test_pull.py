"""From a clean home: pull a model of the catalogue from a local hub, load it over three nodes, chat, reboot, chat."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.daemons import Daemon, house
from tests.e2e.test_transfer import ask
from tests.tiny import write_tiny_llama

pytestmark = pytest.mark.slow
REPO = "bartowski/SmolLM2-135M-Instruct-GGUF"
LAYERS = 6


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A hub with one model, whose folder this is; daemons started after it ask it."""
    folder = tmp_path / "hub"
    (folder / REPO).mkdir(parents=True)
    write_tiny_llama(folder / REPO / "SmolLM2-135M-Instruct-Q4_K_M.gguf", layers=LAYERS, width=256)
    command = [sys.executable, "-m", "tests.models.hub_server", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    endpoint = process.stdout.readline().split()[-1]
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    yield folder
    process.terminate()
    process.wait()


def test_pull_load_chat_reboot_chat_and_remove(tmp_path: Path, hub: Path) -> None:
    daemons: list[Daemon] = []
    try:
        daemons = house(tmp_path, ["kitchen", "office", "attic"], [])
        kitchen, office, attic = daemons
        pulled = kitchen.verb("pull", "smollm2:135m")
        assert (pulled["model"], pulled["licence"]) == ("smollm2:135m", "Apache-2.0")
        assert pulled == kitchen.verb("pull", "smollm2:135m")
        office.until("the model is known", lambda state: pulled["digest"] in json.dumps(state["members"]))
        instance = office.verb("load", "smollm2:135m", "--min-nodes", "3", "--context", "256")
        assert instance["digest"] == pulled["digest"]
        answer = ask(attic, "smollm2:135m")
        assert "unload" in kitchen.verb("rm", "smollm2:135m", code=1)
        for daemon in daemons:
            daemon.kill()
        for daemon in daemons:
            daemon.start()
        for daemon in daemons:
            daemon.wait()
        attic.until("it is ready", lambda state: [one["state"] for one in state["instances"]] == ["ready"])
        assert ask(attic, "smollm2:135m") == answer
        (listed,) = [m for m in kitchen.verb("models")["models"] if m["name"] == "smollm2:135m"]
        assert (listed["here"], listed["source"]) == (True, f"hf:{REPO}:Q4_K_M")
        (listed,) = [m for m in attic.verb("models")["models"] if m["name"] == "smollm2:135m"]
        assert (listed["here"], listed["loaded"], listed["size_bytes"] > 0) == (False, True, True)
        assert kitchen.run("unload", "smollm2:135m").returncode == 0
        for daemon in daemons:
            assert daemon.verb("rm", "smollm2:135m")["freed_bytes"] > 0
            assert not [m for m in daemon.verb("models")["models"] if m["name"] == "smollm2:135m"]
        assert not list((tmp_path / "cache").rglob("*.gguf"))
        assert "pull" in kitchen.verb("load", "smollm2:360m", code=1)
    finally:
        for daemon in daemons:
            daemon.stop()
