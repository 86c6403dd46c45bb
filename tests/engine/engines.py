"""The engines that are installed here, for tests that hold for each of them."""

from __future__ import annotations

import importlib.util

import pytest

from peerinfer.engine.kinds import ENGINES, MLX
from peerinfer.engine.llama import offloads

IS_ON_GPU = offloads()
GPU_OFF = 4e-3
"""There, kernels are fused across the ends of layers, and other ones serve other numbers of rows: CUDA was off by up to
2.4e-3 of the spread of logits."""
HAS_MLX = importlib.util.find_spec("mlx") is not None and importlib.util.find_spec("mlx_lm") is not None
"""MLX has no build for Windows; `scripts/test` installs it elsewhere."""
needs_mlx = pytest.mark.skipif(not HAS_MLX, reason="MLX is not installed here")
each_engine = pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=needs_mlx if name == MLX else ()) for name in ENGINES]
)
