"""The verbs, run as a person runs them, against a daemon around fakes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from peerinfer.api.actions import JoinWish, LoadWish
from peerinfer.cli.imports import loss_text
from peerinfer.cli.main import main
from peerinfer.errors import ContextExceeded, NoPlacement, StageLost, UnsupportedModel
from tests.api.fakes import MODEL, Script
from tests.cli.conftest import Daemon

VERBS = (
    *("up", "down", "tui", "status", "doctor", "invite", "join", "remove", "leave"),
    *("models", "import", "load", "unload", "plan", "chat", "config", "demo"),
)
Capture = pytest.CaptureFixture[str]


def test_help_names_every_verb_and_the_first_steps(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {verb} " in text for verb in VERBS)
    assert "first steps:" in text


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert "--home DIR" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["load"],
        ["load", "m", "--context", "0"],
        ["load", "m", "--policy", "best"],
        ["load", "m", "--stages", "desk"],
        ["load", "m", "--stages", "desk:5-5"],
        ["load", "m", "--stages", "desk:0-5,:5-9"],
        ["plan", "m", "--context", "0"],
        ["plan", "m", "--policy", "best"],
        ["up", "--api", "8642"],
        ["up", "--listen", "host:99999"],
        ["up", "--peer", "host"],
        ["up", "--background", "--headless"],
        ["invite", "--confirm", "--json"],
        ["demo", "--nodes", "0"],
        ["demo", "--cuts", "5,5"],
        ["demo", "--nodes", "3", "--cuts", "5"],
        ["demo", "--engines", ",".join(["llama"] * 17)],
    ],
)
def test_wrong_usage_is_code_2(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", [["status", "--json"], ["down"], ["chat", MODEL, "hi"], ["load", "m", "--json"]])
def test_without_a_daemon_one_sentence_says_what_to_do(arguments: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert main([*arguments, "--home", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "peerinfer up" in captured.err


def test_the_architectures_need_no_daemon(tmp_path: Path, capsys: Capture) -> None:
    assert main(["models", "--architectures", "--home", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "CAN BE SPLIT"
    assert any(line.startswith("smollm3 ") and "multiples of 4" in line for line in lines)
    assert any(line.startswith("mamba ") and "recurrent" in line for line in lines)
    assert main(["models", "--architectures", "--json", "--home", str(tmp_path)]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["architectures"]}
    assert rows["llama"]["cuts"] == "anywhere"
    assert rows["llama"]["whole_only"] is None
    assert "encoder" in rows["bert"]["whole_only"]


def test_status(daemon: Daemon, capsys: Capture) -> None:
    daemon.node.members = {"dd" * 16: "lap"}
    daemon.node.stages = [{"node": "aa" * 16, "layers": [0, 15]}, {"node": "dd" * 16, "layers": [15, 30]}]
    daemon.node.nearby = [{"address": "192.0.2.9:8643", "pairing": True}]
    assert daemon.run("status") == 0
    text = capsys.readouterr().out
    for part in ("desk", "led by desk", "lap", "8.6 GB", "4.3 GB", MODEL, "desk 0-15, lap 15-30", "192.0.2.9:8643"):
        assert part in text
    assert daemon.run("status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == daemon.node.status()


def test_models(daemon: Daemon, capsys: Capture) -> None:
    assert daemon.run("models") == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].split() == [MODEL, "llama", "30", "98", "MB", "loaded"]
    assert "torn cannot be used" in captured.err
    assert daemon.run("models", "--json") == 0
    assert [model["name"] for model in json.loads(capsys.readouterr().out)["models"]] == [MODEL, "torn"]


def test_pull_and_rm(daemon: Daemon, capsys: Capture) -> None:
    assert daemon.run("pull", "hf:owner/big") == 0
    captured = capsys.readouterr()
    assert captured.out == "big:2b is here (2.0 GB). Licence: Apache-2.0.\n"
    assert "Fetching big.gguf (2.0 GB)." in captured.err
    assert daemon.run("pull", "big", "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "big:2b"
    assert daemon.node.pulls == ["hf:owner/big", "big"]
    assert daemon.run("rm", "big:2b") == 0
    assert capsys.readouterr().out == "big:2b is removed; 2.0 GB became free.\n"
    assert daemon.run("rm", MODEL) == 1
    assert "peerinfer unload" in capsys.readouterr().err


def test_import(daemon: Daemon, capsys: Capture, tmp_path: Path) -> None:
    assert daemon.run("import", str(tmp_path)) == 0
    captured = capsys.readouterr()
    assert (
        captured.out == "big is here (2.0 GB). Its weights are off by 0.0052 of their size (root of the mean square).\n"
    )
    assert "Converting big" in captured.err
    assert daemon.run("import", str(tmp_path), "--name", "small", "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "small"
    assert daemon.node.imports == [(str(tmp_path), ""), (str(tmp_path), "small")]
    daemon.node.load_error = UnsupportedModel("This model cannot be imported: it has wheels.")
    assert daemon.run("import", str(tmp_path)) == 1
    assert capsys.readouterr().err.endswith("peerinfer: This model cannot be imported: it has wheels.\n")


def test_an_exact_import_says_so() -> None:
    assert loss_text(0.0) == "Its weights are exactly those of the folder."


def test_the_catalogue_needs_no_daemon(tmp_path: Path, capsys: Capture) -> None:
    assert main(["models", "--catalogue", "--home", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["NAME", "DOWNLOAD", "MEMORY", "LICENCE"]
    assert any(line.startswith("smollm2:135m ") for line in shown.splitlines())
    (tmp_path / "catalogue.json").write_text("not json")
    assert main(["models", "--catalogue", "--json", "--home", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["models"]) > 10
    assert "not JSON" in told["problems"][0]


def test_load_and_unload(daemon: Daemon, capsys: Capture) -> None:
    stages = "desk:0-10,lap:x:10-30"
    assert daemon.run("load", "new", "--context", "512", "--slots", "2", "--min-nodes", "2", "--stages", stages) == 0
    assert daemon.node.loads == [LoadWish("new", 512, 2, "latency", 2, (("desk", 0, 10), ("lap:x", 10, 30)))]
    captured = capsys.readouterr()
    assert captured.out == "new is ready. Layers: desk 0-10, lap:x 10-30.\n"
    assert "writing shards" in captured.err
    assert daemon.run("load", "other", "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "other"
    assert daemon.run("unload", "new") == 0
    assert daemon.run("unload", "new") == 1
    assert capsys.readouterr().err == "peerinfer: new is not loaded.\n"


def test_a_file_is_named_by_its_absolute_path(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "big.gguf").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert daemon.run("load", "big.gguf") == 0
    assert daemon.run("load", "absent.gguf") == 0
    assert [wish.model for wish in daemon.node.loads] == [str(tmp_path / "big.gguf"), "absent.gguf"]


def test_a_load_that_fails_is_a_sentence(daemon: Daemon, capsys: Capture) -> None:
    daemon.node.load_error = NoPlacement("The model does not fit: 300 MB are missing.")
    assert daemon.run("load", "big", "--json") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("peerinfer: The model does not fit: 300 MB are missing.\n")


def test_invite_shows_the_code_and_waits_for_who_joins(daemon: Daemon, capsys: Capture) -> None:
    daemon.node.joiner.set()
    assert daemon.run("invite") == 0
    text = capsys.readouterr().out
    assert "4  8  2  -  9  1  3" in text
    assert "peerinfer join 482-913" in text
    assert "peerinfer://join?at=" in text
    assert text.endswith("lap (dddddddd) has joined the mesh.\n")
    daemon.until(lambda: not daemon.node.window_open)


def test_invite_json_returns_at_once_and_leaves_the_window_open(daemon: Daemon, capsys: Capture) -> None:
    assert daemon.run("invite", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"code", "uri", "port", "expires_s"}
    assert daemon.node.window_open


def test_an_invitation_that_expires(daemon: Daemon, capsys: Capture) -> None:
    daemon.node.invite_expires = True
    assert daemon.run("invite") == 1
    assert "Nobody joined" in capsys.readouterr().err


def test_join_finds_the_invitation_nearby(daemon: Daemon, capsys: Capture) -> None:
    daemon.node.nearby = [
        {"address": "192.0.2.8:8643", "pairing": False, "pairing_port": None},
        {"address": "192.0.2.9:8643", "pairing": True, "pairing_port": 41875},
    ]
    assert daemon.run("join", "482-913", "--yes") == 0
    assert daemon.node.joined == [JoinWish("482-913", "192.0.2.9:41875")]
    assert "in the mesh of desk" in capsys.readouterr().out
    assert daemon.run("join", "482913", "--yes", "--host", "192.0.2.7:5", "--json") == 0
    assert daemon.node.joined[1].host == "192.0.2.7:5"
    assert json.loads(capsys.readouterr().out)["name"] == "desk"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["482-913", "--yes"], "No open invitation was found nearby"),
        (["482-91", "--yes"], "not an invitation"),
        (["482-913", "--yes", "--host", "desk"], "HOST:PORT"),
        (["482-913", "--host", "192.0.2.7:5"], "--yes"),
        (["000-000", "--yes", "--host", "192.0.2.7:5"], "do not match"),
    ],
)
def test_joins_that_fail(
    daemon: Daemon, arguments: list[str], sentence: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert daemon.run("join", *arguments) == 1
    assert sentence in capsys.readouterr().err
    assert daemon.node.joined == []


def test_several_invitations_are_not_guessed_between(daemon: Daemon, capsys: Capture) -> None:
    daemon.node.nearby = [{"address": f"192.0.2.{i}:8643", "pairing": True} for i in (8, 9)]
    assert daemon.run("join", "482-913", "--yes") == 1
    assert "192.0.2.8:8643, 192.0.2.9:8643" in capsys.readouterr().err


def test_remove_and_leave(daemon: Daemon, capsys: Capture) -> None:
    assert daemon.run("remove", "lap") == 0
    assert daemon.run("leave") == 0
    assert "lap is no longer a member" in capsys.readouterr().out
    assert daemon.run("leave", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"mesh": "ee" * 16}


def test_chat_once(daemon: Daemon, capsys: Capture) -> None:
    assert daemon.run("chat", MODEL, "hi", "--private", "--system", "be brief", "--max-tokens", "9") == 0
    assert capsys.readouterr().out == "Hello \u00e4\u2028\U0001f600\n"
    request = daemon.chat.requests[0]
    assert [(message.role, message.content) for message in request.messages] == [("system", "be brief"), ("user", "hi")]
    assert (request.private, request.max_tokens, request.sampling.temperature) == (True, 9, 0.7)
    assert daemon.run("chat", "Why is the sky blue?") == 0
    assert (daemon.chat.requests[1].model, daemon.chat.requests[1].messages[0].content) == ("", "Why is the sky blue?")


def test_chat_takes_its_prompt_from_a_pipe(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("long letter\n"))
    assert daemon.run("chat", MODEL) == 0
    assert daemon.chat.requests[0].messages[0].content == "long letter"
    assert daemon.run("chat", MODEL) == 1


def test_a_conversation_remembers_and_outlives_errors(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    scripts = iter([Script(), Script(refusal=ContextExceeded("Too long.")), Script(pieces=("bye",))])
    typed = iter(["one", "", "two", "three"])

    def answer(_: str) -> str:
        try:
            text = next(typed)
        except StopIteration:
            raise EOFError from None
        if text:
            daemon.chat.script = next(scripts)
        return text

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert daemon.run("chat", MODEL) == 0
    said = [message.content for message in daemon.chat.requests[2].messages]
    assert said == ["one", "Hello \u00e4\u2028\U0001f600", "three"]
    assert "Too long." in capsys.readouterr().err


def test_an_answer_that_breaks_off_is_code_1(daemon: Daemon, capsys: Capture) -> None:
    daemon.chat.script = Script(error=StageLost("A stage was lost: ask again."))
    assert daemon.run("chat", MODEL, "hi") == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("Hello")
    assert captured.err == "peerinfer: A stage was lost: ask again.\n"


def test_down_waits_for_the_end(daemon: Daemon, capsys: Capture) -> None:
    assert daemon.run("down") == 0
    assert capsys.readouterr().out == "The node has stopped.\n"
    assert not (daemon.home / "daemon.json").exists()
    assert daemon.run("down") == 1


def test_doctor_finds_the_daemon(daemon: Daemon, capsys: Capture) -> None:
    daemon.run("doctor", "--json")
    findings = {each["name"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["home"]["state"] == findings["daemon"]["state"] == "ok"
    assert "mesh of 1" in findings["daemon"]["detail"]
    assert {"peerinfer", "home", "disk", "memory", "cpu", "engine", "daemon", "network"} <= set(findings)


def test_bench_tells_how_fast_this_machine_is(daemon: Daemon, capsys: Capture) -> None:
    assert daemon.run("bench") == 0
    said = capsys.readouterr()
    assert "120.0 tokens/s = layers 5.40 ms + head 1.20 ms + step 0.30 ms" in said.out
    assert "weights read at 14.0 GB/s; prompts at 250 tokens/s" in said.out
    assert "the mesh was not measured" in said.out
    assert "Measuring this machine" in said.err
    assert daemon.run("bench", "--json") == 0
    assert json.loads(capsys.readouterr().out)["machine"]["steps"] == 16
    assert daemon.run("bench", "nothing") == 1
    assert "There is no model nothing" in capsys.readouterr().err
