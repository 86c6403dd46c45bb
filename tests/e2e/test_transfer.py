"""Three daemons of which one has the model: the others fetch their layers, and the mesh comes back after a reboot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

from peerinfer.models.shards import key_of
from tests.e2e.daemons import Daemon, house
from tests.tiny import write_tiny_llama

pytestmark = pytest.mark.slow
LAYERS = 6


def ask(daemon: Daemon, model: str = "tiny") -> str:
    with openai.OpenAI(base_url=daemon.api + "/v1", api_key="unused", max_retries=0, timeout=90) as client:
        messages: list[Any] = [{"role": "user", "content": "hello"}]
        done = client.chat.completions.create(model=model, messages=messages, max_tokens=12, temperature=0)
    return done.choices[0].message.content or ""


def held(daemon: Daemon) -> set[tuple[int, int, str]]:
    """The shards in a home."""
    keys = [key_of(path.name) for path in (daemon.home / "shards").glob("*.gguf")]
    return {(key.first_layer, key.last_layer, key.kind) for key in keys if key}


def stage_of(state: dict[str, Any], daemon: Daemon) -> tuple[int, int]:
    (instance,) = state["instances"]
    (layers,) = [stage["layers"] for stage in instance["stages"] if stage["node"] == state["node"]["id"]]
    return layers[0], layers[1]


def test_nodes_without_the_file_fetch_their_layers_and_all_come_back_after_a_reboot(tmp_path: Path) -> None:
    daemons = house(tmp_path, ["kitchen", "office", "attic"], [])
    try:
        model = write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS, width=256)
        daemons[0].verb("load", str(model), "--min-nodes", "3", "--context", "256")
        answer = ask(daemons[0])
        for daemon in daemons:
            state = daemon.until("it is ready", lambda state: [one["state"] for one in state["instances"]] == ["ready"])
            first, last = stage_of(state, daemon)
            kind = "last" if last == LAYERS else "trunk"
            wanted = {(first, last, kind)} | (
                {(0, 0, "embedding")} if not first and daemon is not daemons[0] else set()
            )
            assert held(daemon) - {(0, 0, "vocab")} == wanted
            assert ask(daemon) == answer
        for daemon in daemons:
            daemon.kill()
        for daemon in daemons:
            daemon.start()
        for daemon in daemons:
            daemon.wait()
        daemons[2].until("it is ready", lambda state: [one["state"] for one in state["instances"]] == ["ready"])
        assert ask(daemons[2]) == answer
    finally:
        for daemon in daemons:
            daemon.stop()
