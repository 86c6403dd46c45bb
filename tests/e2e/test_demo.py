"""The main job: three nodes, one real model, one real answer, token for token what llama.cpp gives for the whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import llama_cpp
import pytest

from tests.bundled import bundled_model

pytestmark = pytest.mark.slow


def test_the_demo_answers_as_the_whole_model(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "peerinfer", "demo", "--json", "--nodes", "3"]
    ask = ["--prompt", "Why is the sky blue?", "--max-tokens", "24"]
    done = subprocess.run([*command, *ask], check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert len(shown["stages"]) == 3
    assert len(shown["token_ids"]) == 24
    assert shown["text"]
    assert shown["token_ids"] == _greedy(shown["prompt_token_ids"], 24)


def _greedy(prompt: list[int], count: int) -> list[int]:
    """What llama-cpp-python gives greedily for the whole model."""
    model = llama_cpp.Llama(str(bundled_model()), n_ctx=512, verbose=False)
    tokens: list[int] = []
    for token in model.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0):
        tokens.append(token)
        if token == model.token_eos() or len(tokens) == count:
            break
    return tokens
