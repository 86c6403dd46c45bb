"""Which engines a node has: asked of the real MLX, as it is and as it is broken in several ways."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from peerinfer.engine.calls import LOAD
from peerinfer.engine.kinds import LLAMA, MLX
from peerinfer.engine.mlx_ability import MlxAbility, mlx_ability
from peerinfer.engine.worker import StageService
from peerinfer.errors import EngineError, UnsupportedModel
from peerinfer.models.mlx_rules import MLX_RULES
from peerinfer.net.messages import pack_fields
from peerinfer.node import engines as module
from peerinfer.node.engines import EngineDesk
from peerinfer.node.policy import PolicyDesk
from peerinfer.packing import pack
from tests.engine.chains import Stages
from tests.engine.engines import needs_mlx
from tests.tiny_architectures import MODELS
from tests.tiny_parts import write_tiny


@needs_mlx
def test_the_installed_mlx_runs_every_architecture_that_is_known() -> None:
    known = mlx_ability()
    assert (known.trouble, known.unable) == ("", ())
    assert "mlx-lm" in known.version


class Uninstalled:
    """Finds a package as little as if it were not installed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == self._package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@needs_mlx
@pytest.mark.parametrize("package", ["mlx_lm", "mlx"])
def test_without_mlx_it_says_what_to_install_and_refuses_stages_with_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Uninstalled(package), *sys.meta_path])
    known = mlx_ability()
    assert "scripts/setup --extras mlx" in known.trouble
    assert known.unable == tuple(sorted(MLX_RULES))
    made = Stages(write_tiny(tmp_path / "tiny.gguf", MODELS["llama"]), tmp_path, {"engine": MLX})
    with pytest.raises(UnsupportedModel, match="scripts/setup --extras mlx"):
        StageService()(LOAD, memoryview(pack(pack_fields(made.spec(0, 4)))), lambda _: None)


def _without_the_class(models: Any, patch: pytest.MonkeyPatch) -> None:
    patch.delattr(models, "TransformerBlock")


def _with_other_arguments(models: Any, patch: pytest.MonkeyPatch) -> None:
    def block(*, config: object) -> None: ...

    patch.setattr(models, "TransformerBlock", block)


def _with_another_attention(models: Any, patch: pytest.MonkeyPatch) -> None:
    made = models.TransformerBlock

    def block(arguments: object) -> object:
        one = made(arguments)
        one.attention = one.self_attn
        del one.self_attn
        return one

    patch.setattr(models, "TransformerBlock", block)


def _with_another_cache(models: Any, patch: pytest.MonkeyPatch) -> None:
    def call(_self: object, x: object, _mask: object, cache: Any) -> object:
        return cache.fetch_pages(x)

    patch.setattr(models.TransformerBlock, "__call__", call)


MOVED = [_without_the_class, _with_other_arguments, _with_another_attention, _with_another_cache]


@needs_mlx
@pytest.mark.parametrize("moved", MOVED)
def test_an_architecture_whose_classes_moved_is_left_to_llama_cpp(monkeypatch: pytest.MonkeyPatch, moved: Any) -> None:
    moved(importlib.import_module("mlx_lm.models.qwen3"), monkeypatch)
    known = mlx_ability()
    assert (known.trouble, known.unable) == ("", ("qwen3",))


@needs_mlx
def test_where_all_classes_moved_mlx_does_not_run_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    for rules in MLX_RULES.values():
        _without_the_class(importlib.import_module(f"mlx_lm.models.{rules.module}"), monkeypatch)
    known = mlx_ability()
    assert "has no `mlx_lm.models.gemma2` as peerinfer knows it" in known.trouble
    assert known.unable == tuple(sorted(MLX_RULES))


def desk(folder: Path, engines: str = "all", *, is_apple: bool = False) -> EngineDesk:
    policy = PolicyDesk(folder)
    policy.set("engines", engines)
    return EngineDesk(policy, is_apple=is_apple)


class Asked:
    """Counts how often MLX is asked, and answers."""

    def __init__(self, answer: MlxAbility | Exception) -> None:
        self.answer = answer
        self.times = 0

    async def __call__(self) -> MlxAbility:
        self.times += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


SOUND = MlxAbility("", "mlx 1, mlx-lm 1", metal=True, unable=("phi3",))


@pytest.mark.parametrize(
    ("engines", "is_apple", "expected"),
    [
        ("all", True, (MLX, LLAMA)),
        ("all", False, (LLAMA,)),
        ("mlx", False, (MLX,)),
        ("llama.cpp,mlx", True, (LLAMA, MLX)),
        ("mlx,llama.cpp", False, (MLX, LLAMA)),
        ("llama.cpp", True, (LLAMA,)),
    ],
)
async def test_mlx_is_asked_where_it_is_wanted_and_comes_in_the_owners_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: str, is_apple: bool, expected: tuple[str, ...]
) -> None:
    asks = int(MLX in expected)
    asked = Asked(SOUND)
    monkeypatch.setattr(module, "ask_mlx", asked)
    one = desk(tmp_path, engines, is_apple=is_apple)
    assert one.engines == tuple(name for name in expected if name == LLAMA), "before it has answered"
    await one.prepare()
    await one.prepare()
    assert (one.engines, asked.times, one.troubles()) == (expected, asks, ())
    assert one.computes_on_metal == bool(asks)
    assert one.unable() == (((MLX, "phi3"),) if asks else ())


@pytest.mark.parametrize("answer", [MlxAbility("MLX is not here."), EngineError("The engine ended.")])
async def test_an_mlx_that_does_not_run_is_told_and_leaves_llama_cpp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: MlxAbility | Exception
) -> None:
    monkeypatch.setattr(module, "ask_mlx", Asked(answer))
    one = desk(tmp_path, "mlx,llama.cpp")
    await one.prepare()
    assert one.engines == (LLAMA,)
    ((engine, sentence),) = one.troubles()
    assert engine == MLX
    assert str(answer.trouble if isinstance(answer, MlxAbility) else answer) in sentence


async def test_a_change_of_mind_is_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ask_mlx", Asked(SOUND))
    policy, news = PolicyDesk(tmp_path), asyncio.Event()
    one = EngineDesk(policy, is_apple=False)
    running = asyncio.create_task(one.run(news.set))
    await asyncio.sleep(0)
    assert not news.is_set()
    policy.set("engines", "mlx")
    one.look()
    await asyncio.wait_for(news.wait(), 10)
    assert one.engines == (MLX,)
    policy.set("engines", "llama.cpp")
    assert (one.engines, one.troubles()) == ((LLAMA,), ())
    running.cancel()


async def test_a_start_does_not_wait_for_an_mlx_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> MlxAbility:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(module, "ask_mlx", hang)
    monkeypatch.setattr(module, "FIRST_S", 0.01)
    one = desk(tmp_path, "mlx,llama.cpp")
    await one.prepare()
    assert one.engines == (LLAMA,)


@needs_mlx
def test_a_daemon_does_not_import_mlx() -> None:
    """It would take a second of each start, and its crash would be the daemon's end."""
    code = "import sys, peerinfer.node.daemon as _; print(sorted({'mlx', 'mlx_lm', 'llama_cpp'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert told.stdout.strip() == "[]"
