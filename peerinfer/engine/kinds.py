"""The engines by the names that people and programs see; a file of its own, so that naming one loads nothing."""

from __future__ import annotations

from typing import Final

LLAMA: Final = "llama.cpp"
MLX: Final = "mlx"
ENGINES: Final = (LLAMA, MLX)
