"""A model file written again as one in several files, by the gguf package."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from peerinfer.models.gguf import read_header
from peerinfer.models.gguf_cursor import StringArray


def split_model(model: Path, folder: Path, tensors_each: int = 7) -> list[Path]:
    """The parts of `model`, with all of its metadata and tensors, in `folder`."""
    header = read_header(model)
    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(
        folder / model.name, header.text("general.architecture"), split_max_tensors=tensors_each, small_first_shard=True
    )
    for key, value in header.metadata.items():
        kind, items = header.types[key]
        if key == "general.architecture":
            continue
        plain = list(value.raw()) if isinstance(value, StringArray) else value
        plain = plain.tolist() if isinstance(plain, np.ndarray) else plain
        writer.add_key_value(key, plain, gguf.GGUFValueType(kind), None if items is None else gguf.GGUFValueType(items))
    data = model.read_bytes()
    for info in header.tensors:
        raw = np.frombuffer(data, np.uint8, info.n_bytes, info.offset)
        rows = raw.reshape(*info.shape[:0:-1], -1)
        writer.add_tensor(info.name, rows, raw_dtype=info.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("*.gguf"))
