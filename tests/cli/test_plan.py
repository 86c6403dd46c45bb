"""`plan` as a person runs it: the real process and the real solver for described meshes, a daemon for the live one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from peerinfer.api.actions import PlanWish
from peerinfer.cli.main import main
from peerinfer.errors import UnknownModel
from peerinfer.placement.explain_report import report
from tests.cli.conftest import Daemon
from tests.placement.described import GB, LINK, mesh, node, told

Capture = pytest.CaptureFixture[str]
MODEL = {"layers": 24, "layer_bytes": GB // 2, "head_bytes": GB, "activation_bytes_per_token": 8192}
FILE: dict[str, Any] = {
    "model": {**MODEL, "kv_bytes_per_token_per_layer": 50_000},
    "nodes": [node("desk", 7, 300), node("lap", 9, 800), node("old", 9, 5000), node("pi", 0.3, 9000)],
    "default_link": LINK,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mesh.json"
    path.write_text(json.dumps(FILE))
    return path


def plan(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A real process, in a home where no daemon runs."""
    command = [sys.executable, "-P", "-m", "peerinfer", "plan", "--cluster", str(path), *options]
    command += ["--home", str(path.parent / "home")]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_a_described_mesh_is_planned_by_the_solver_without_a_daemon(file: Path) -> None:
    done = plan(file, "--json")
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert [stage["name"] for stage in body["stages"]] in (["desk", "lap"], ["lap", "desk"])
    assert [stage["layers"][1] for stage in body["stages"]][-1] == 24
    assert body["infeasible"] is None
    assert body["solver"]["name"] in ("cp-sat", "greedy")
    hops = (500 + 8192 / 1e8 * 1e6 + 500) / 1000
    assert 1000 / body["predicted"]["tokens_per_s"] == pytest.approx(sum(one["ms"] for one in body["stages"]) + hops)
    assert body["binding"]["constraint"] == "memory"
    assert {one["name"]: one["constraint"] for one in body["excluded"]} == {"old": "speed", "pi": "memory"}
    assert not (file.parent / "home").exists()


def test_options_stand_before_what_the_file_says(file: Path, capsys: Capture) -> None:
    options = ["--context", "1000", "--slots", "2", "--policy", "throughput", "--min-nodes", "3", "--json"]
    assert main(["plan", "any", "--cluster", str(file), *options]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["context"], body["slots"], body["policy"], body["min_nodes"]) == (1000, 2, "throughput", 3)
    assert len(body["stages"]) == 3
    per_layer = GB // 2 + 50_000 * 1000 * 2
    assert sum(one["memory_bytes"] for one in body["stages"]) == 24 * per_layer + GB


def test_without_a_node_there_may_be_no_plan_and_the_exit_code_says_so(file: Path, capsys: Capture) -> None:
    left_out = ["--without", "desk", "--without", "old"]
    assert main(["plan", "--cluster", str(file), *left_out, "--json"]) == 1
    captured = capsys.readouterr()
    body = json.loads(captured.out)
    assert body["stages"] == []
    assert body["infeasible"]["short_bytes"] > 0
    assert "Leave nobody out: no --without desk --without old." in body["infeasible"]["try"]
    assert captured.err == f"peerinfer: {body['infeasible']['reason']}\n"
    assert main(["plan", "--cluster", str(file), *left_out]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Any of these would do:" in captured.err
    assert main(["plan", "--cluster", str(file), "--without", "attic"]) == 1
    assert "There is no node attic to leave out. Nodes: desk, lap, old, pi." in capsys.readouterr().err


def test_a_bad_file_is_a_sentence_that_names_file_and_field(tmp_path: Path) -> None:
    path = tmp_path / "mesh.json"
    path.write_text(json.dumps({**FILE, "nodes": [*FILE["nodes"][:2], {**FILE["nodes"][2], "memory_bytes": "lots"}]}))
    done = plan(path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "peerinfer: mesh.json: nodes[2].memory_bytes must be a whole number of bytes from 0 to 1000000000000000, "
        'but is "lots".\n'
    )
    assert "cannot be read" in plan(tmp_path / "absent.json").stderr


def test_a_model_or_a_file_is_needed(capsys: Capture) -> None:
    assert main(["plan"]) == 2
    assert "name a MODEL" in capsys.readouterr().err


def test_the_daemon_plans_for_the_mesh_as_it_is(daemon: Daemon, capsys: Capture) -> None:
    daemon.node.plan_answer = report(told(mesh(node("desk", 30, 1000))))
    assert daemon.run("plan", "m", "--without", "lap", "--without", "old", "--min-nodes", "2") == 0
    assert capsys.readouterr().out.startswith("desk holds it whole: 50.0 tokens/s.\n")
    assert daemon.node.plans == [PlanWish("m", min_nodes=2, without=("lap", "old"))]
    daemon.node.plan_answer = report(told(mesh(node("desk", 3, 1000))))
    assert daemon.run("plan", "m", "--json") == 1
    assert json.loads(capsys.readouterr().out)["infeasible"]["try"]
    daemon.node.load_error = UnknownModel("There is no model m.")
    assert daemon.run("plan", "m") == 1
    assert capsys.readouterr().err == "peerinfer: There is no model m.\n"
