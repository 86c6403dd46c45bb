"""The header of a whole model, whether it is in one file or in several beside each other."""

from __future__ import annotations

from pathlib import Path

from peerinfer.models.gguf import GgufHeader, read_header
from peerinfer.models.parts import merge_headers, part_name


def read_model(path: Path) -> GgufHeader:
    """The header of the model whose file, or first file, is `path`. Raises `ModelError`."""
    part = part_name(path.name)
    names = (path.name,) if part is None else part.all_file_names()
    return merge_headers([read_header(path.with_name(name)) for name in names])
