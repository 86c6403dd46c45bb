"""Two engines in one pipeline, as a person sees them; and a machine on which MLX is broken."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.bundled import bundled_model
from tests.e2e.daemons import PEERINFER, Daemon
from tests.e2e.test_transfer import ask
from tests.engine.engines import needs_mlx

pytestmark = [needs_mlx, pytest.mark.slow]


def demo(*words: str, code: int = 0) -> Any:
    command = [*PEERINFER, "demo", "--json", "--prompt", "Why is the sky blue?", "--max-tokens", "16", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if code else json.loads(done.stdout)


def test_a_demo_of_both_engines_answers_sensibly() -> None:
    shown = demo("--engines", "mlx,llama,mlx")
    assert [stage["engine"] for stage in shown["stages"]] == ["mlx", "llama.cpp", "mlx"]
    assert [stage["layers"] for stage in shown["stages"]] == [[0, 10], [10, 20], [20, 30]]
    assert "light" in shown["text"] or "color" in shown["text"]
    assert len(shown["token_ids"]) == 16


def test_engines_that_cannot_be_are_refused_before_anything_starts() -> None:
    assert "3 nodes take 3 engines, not 2" in demo("--nodes", "3", "--engines", "mlx,llama", code=2)
    assert "are not engines" in demo("--engines", "mlx,vllm", code=2)


def test_a_machine_whose_mlx_is_broken_works_without_it_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken" / "mlx_lm"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('a symbol of mlx is missing')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    daemon = Daemon(tmp_path, "kitchen", [bundled_model()])
    try:
        daemon.start()
        daemon.wait()
        said = daemon.run("config", "engines", "mlx")
        assert (said.returncode, said.stdout.strip()) == (0, "mlx")
        assert "a symbol of mlx is missing" in said.stderr
        state = daemon.until("the engine is told of", lambda state: not state["node"]["engines"])
        (member,) = state["members"]
        assert [trouble["probe"] for trouble in member["snapshot"]["troubles"]][-1:] == ["mlx"]
        assert "may run layers in mlx only" in daemon.verb("load", "smollm2", code=1)
        daemon.run("config", "engines", "mlx,llama.cpp")
        instance = daemon.verb("load", "smollm2", "--context", "256")
        assert [stage["engine"] for stage in instance["stages"]] == ["llama.cpp"]
        assert ask(daemon, instance["model"])
    finally:
        daemon.stop()
