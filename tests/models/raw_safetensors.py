"""Writes safetensors files without any library, so that none needs to be there and anything can be written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Stored = tuple[str, np.ndarray]
"""Type as the format spells it, and the numbers."""


def write_safetensors(path: Path, tensors: Mapping[str, Stored]) -> None:
    """One file with these tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, (dtype, numbers) in tensors.items():
        header[name] = {"dtype": dtype, "shape": numbers.shape, "data_offsets": [end, end + numbers.nbytes]}
        end += numbers.nbytes
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for _, numbers in tensors.values():
            file.write(numbers.tobytes())
