"""MLX against llama.cpp on the real model: hidden states of each stage, and the tokens that mixed pipelines choose.

llama.cpp on a processor rounds activations to 8 bits before it multiplies them with quantised weights, so the stock
model is itself about 1 % off what its weights say. Hidden states are therefore held to llama.cpp with the same weights
written as F32, which rounds nothing; tokens are held to the stock model, as people run it.
"""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from peerinfer.engine.batching import BatchingEngine
from peerinfer.engine.kinds import LLAMA, MLX
from peerinfer.net.frames import Row
from tests.bundled import bundled_model
from tests.engine.chains import Stages
from tests.engine.engines import needs_mlx

pytestmark = [needs_mlx, pytest.mark.slow]

CUTS = (0, 10, 20, 30)
TOKENS = 200
HIDDEN_MAX = 2e-3
EQUAL_MIN = 0.92
MIXES = [(LLAMA, MLX, LLAMA), (MLX, LLAMA, MLX), (MLX, MLX, MLX)]
QUESTION = b"<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n"
SHAPE = {"context": 512, "slots": 1, "chunk": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlx")


@pytest.fixture(scope="module")
def text() -> np.ndarray:
    """A question and the stock model's own greedy answer, `TOKENS` of it."""
    model = llama_cpp.Llama(str(bundled_model()), n_ctx=512, verbose=False)
    prompt = model.tokenize(QUESTION, special=True, add_bos=False)
    answer = itertools.islice(model.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0), TOKENS)
    return np.array([*prompt, *answer], np.int32)


@pytest.fixture(scope="module")
def exact(folder: Path) -> Path:
    """The bundled model with its weights as F32."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.allow_requantize, params.ftype = True, 0
    target = folder / "f32.gguf"
    pointer: Any = ctypes.byref(params)
    assert llama_cpp.llama_model_quantize(str(bundled_model()).encode(), str(target).encode(), pointer) == 0
    return target


def stages_of(model: Path, folder: Path, engine: str) -> Stages:
    return Stages(model, folder, {**SHAPE, "engine": engine})


def run(stage: BatchingEngine, text: np.ndarray, hidden: np.ndarray | None) -> np.ndarray:
    """A trunk in one prefill; a stage with a head token by token, with logits behind each."""
    rows = [Row(0, 0, 0, len(text), True)]
    if stage.spec.kind != "trunk":
        rows = [Row(0, 0, at, 1, True) for at in range(len(text))]
    stage.truncate(0, 0)
    return stage.forward(rows, text if hidden is None else None, hidden)


def relative(made: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(made - wanted) / np.linalg.norm(wanted))


def test_hidden_states_of_each_stage_are_those_of_llama_cpp(
    folder: Path, text: np.ndarray, exact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {"mlx": stages_of(bundled_model(), folder, MLX), "stock": stages_of(bundled_model(), folder, LLAMA)}
    reference = stages_of(exact, folder / "exact", LLAMA)
    (folder / "exact").mkdir()
    hidden: np.ndarray | None = None
    off: list[float] = []
    for first, last in itertools.pairwise(CUTS):
        wanted = run(reference.stage(first, last), text, hidden)
        errors = {name: relative(run(each.stage(first, last), text, hidden), wanted) for name, each in made.items()}
        with capsys.disabled():
            told = "MLX {mlx:.1e} off exact, stock llama.cpp {stock:.1e}".format(**errors)
            print(f"\nlayers {first}-{last}: {told}")  # noqa: T201
        off.append(errors["mlx"])
        hidden = wanted
    assert max(off) <= HIDDEN_MAX


def test_mixed_pipelines_choose_the_tokens_of_the_whole_model(
    folder: Path, text: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = {engine: stages_of(bundled_model(), folder, engine) for engine in (LLAMA, MLX)}

    def tokens(engines: tuple[str, ...]) -> np.ndarray:
        hidden: np.ndarray | None = None
        for engine, (first, last) in zip(engines, itertools.pairwise(CUTS), strict=True):
            hidden = run(loaded[engine].stage(first, last), text, hidden)
        assert hidden is not None
        return hidden.argmax(axis=1)[-TOKENS:]

    whole = run(loaded[LLAMA].stage(0, 30), text, None).argmax(axis=1)[-TOKENS:]
    for engines in MIXES:
        equal = float((tokens(engines) == whole).mean())
        with capsys.disabled():
            print(f"\n{', '.join(engines)}: {equal:.1%} of {TOKENS} greedy tokens equal")  # noqa: T201
        assert equal >= EQUAL_MIN
