"""A model in MLX's format, from a folder to an answer of two engines together: the bundled one, packed anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.daemons import house
from tests.e2e.test_transfer import ask
from tests.models.mlx_bundled import write_bundled

pytest.importorskip("mlx_lm")
pytestmark = pytest.mark.slow
NAME = "smollm2-mlx"


def test_import_load_over_two_engines_chat_and_remove(tmp_path: Path) -> None:
    folder = write_bundled(tmp_path / "SmolLM2-135M-Instruct-4bit", bits=4)
    daemons = house(tmp_path, ["kitchen", "office"], [])
    try:
        kitchen, office = daemons
        made = kitchen.verb("import", str(folder), "--name", NAME)
        assert (made["model"], made["loss"]) == (NAME, 0.0)
        assert "already" in kitchen.verb("import", str(folder), "--name", NAME, code=1)
        assert "cannot be the name" in kitchen.verb("import", str(folder), "--name", "../evil", code=1)
        assert "config.json" in kitchen.verb("import", str(tmp_path), code=1)
        office.verb("config", "engines", "mlx")
        office.until("the model is known", lambda state: made["digest"] in json.dumps(state["members"]))
        instance = kitchen.verb("load", NAME, "--context", "256", "--stages", "kitchen:0-15,office:15-30")
        assert [stage["engine"] for stage in instance["stages"]] == ["llama.cpp", "mlx"]
        assert ask(office, NAME).startswith("Hello")
        assert kitchen.run("unload", NAME).returncode == 0
        assert kitchen.verb("rm", NAME)["freed_bytes"] >= made["size_bytes"]
    finally:
        for daemon in daemons:
            daemon.stop()
