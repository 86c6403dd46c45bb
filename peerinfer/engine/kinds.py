"""The engines by the names that people and programs see, and how far a measurement of one holds; a file of its own, so
that naming one loads nothing.
"""

from __future__ import annotations

from typing import Final

LLAMA: Final = "llama.cpp"
MLX: Final = "mlx"
ENGINES: Final = (LLAMA, MLX)
OUTGROWN: Final = 4
"""Layers of so many times the bytes of any that were measured are another matter: a kernel of a GPU takes a fixed time,
so that a small model says little of the rate. (An H200 read the layers of a model of 135M at 78 GB/s, and those of one
of 3.7B at 1,407 GB/s.)"""
