"""Set-up: when an environment is good enough to be left alone, and what happens when a GPU build fails."""

from __future__ import annotations

import argparse
from pathlib import Path

import llama_wheel
import pytest
import setup
from llama_wheel import Backend, Recipe
from progress import SetupFailed

STAMP = setup.Stamp("digest", ["test"], "cpu", "key")


@pytest.mark.parametrize(
    ("inputs", "extras", "backend", "expected"),
    [
        ("digest", set(), None, True),
        ("digest", {"test"}, "cpu", True),
        ("other", set(), None, False),
        ("digest", {"mlx"}, None, False),
        ("digest", {"test"}, "cuda", False),
    ],
)
def test_a_stamp_serves_what_it_covers(inputs: str, extras: set[str], backend: str | None, expected: bool) -> None:
    assert STAMP.serves(inputs, extras, backend) is expected


def test_a_stamp_that_cannot_be_read_is_no_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "STAMP", tmp_path / "stamp.json")
    assert setup.read_stamp() is None
    setup.write_stamp(STAMP)
    assert setup.read_stamp() == STAMP
    for damage in ("", "[]", '{"inputs": "only"}'):
        (tmp_path / "stamp.json").write_text(damage)
        assert setup.read_stamp() is None


def test_an_environment_that_serves_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not_run(*_: object) -> None:
        raise AssertionError("set up again")

    monkeypatch.setattr(setup, "read_stamp", lambda: setup.Stamp(setup.inputs_digest(), ["test"], "cpu", "key"))
    monkeypatch.setattr(setup, "set_up", must_not_run)
    setup.ensure(argparse.Namespace(extras="test", force_backend=None, quiet=True))


def test_extras_that_were_there_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[set[str]] = []
    monkeypatch.setenv("PEERINFER_CACHE", str(tmp_path))
    monkeypatch.setattr(setup, "STAMP", tmp_path / "stamp.json")
    monkeypatch.setattr(setup, "set_up", lambda _inputs, extras, *_: asked_for.append(extras))
    monkeypatch.setattr(setup, "read_stamp", lambda: setup.Stamp("old", ["test"], "cpu", "key"))
    setup.ensure(argparse.Namespace(extras="mlx", force_backend=None, quiet=True))
    assert asked_for == [{"mlx", "test"}]


@pytest.mark.parametrize("guessed", [True, False])
def test_only_a_gpu_that_was_guessed_gives_way_to_the_cpu(guessed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_wheel(recipe: Recipe, _python: Path) -> Path:
        if recipe.backend.name != "cpu":
            raise SetupFailed("no compiler for that")
        return Path("cpu.whl")

    monkeypatch.setattr(llama_wheel, "cached", lambda _recipe: None)
    monkeypatch.setattr(llama_wheel, "compile_wheel", compile_wheel)
    recipe = Recipe("1", Backend("cuda", "it is here", guessed))
    if guessed:
        assert setup.llama_wheel_for(recipe)[1] == Path("cpu.whl")
    else:
        with pytest.raises(SetupFailed):
            setup.llama_wheel_for(recipe)


def test_no_constraint_names_an_address() -> None:
    text = setup.CONSTRAINTS.read_text(encoding="utf-8")
    assert "://" not in text
    assert "@" not in text


def test_the_compiled_version_is_the_one_that_is_depended_on() -> None:
    table = setup.project()["project"]
    assert isinstance(table, dict)
    assert f"llama-cpp-python=={setup.pinned('llama-cpp-python')}" in table["dependencies"]
