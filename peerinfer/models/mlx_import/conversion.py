"""Writes the GGUF file of a model in MLX's format: the header, then each tensor in slices: memory is bounded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType

from peerinfer.models.architecture_rules import Entry
from peerinfer.models.atomic import check_room, replacing
from peerinfer.models.gguf import TensorInfo
from peerinfer.models.layout_writer import header_bytes, padded
from peerinfer.models.mlx_import.blocks import Bytes, floats, numbers, permuted, quantised_blocks
from peerinfer.models.mlx_import.calls import Converted, Progressed
from peerinfer.models.mlx_import.config import Settings
from peerinfer.models.mlx_import.folder import ModelFolder, read_folder
from peerinfer.models.mlx_import.hyperparameters import Hyperparameters, entry_of, hyperparameters
from peerinfer.models.mlx_import.tensors import Conversion, conversions
from peerinfer.models.mlx_import.vocabulary import strips_blanks, tokenizer_keys
from peerinfer.models.rounding import Loss
from peerinfer.models.safetensors import StoredTensor, damaged
from peerinfer.models.shard_writer import ShardPlan, Source

SLICE_WEIGHTS: Final = 1 << 20
"""Converted at once by one thread: some 20 MB of numbers in between."""
THREADS_MAX: Final = 8
"""That convert at once; each works on a slice."""
ROPE_FACTORS: Final = "rope_freqs.weight"
QUANTISATION_VERSION: Final = 2
"""GGML_QNT_VERSION of ggml.h."""
_PHI3: Final = "phi-3"
"""In the name of a model whose special tokens swallow the blanks behind them: see `vocabulary.strips_blanks`."""

Tell = Callable[[Progressed], None]


def convert(folder: Path, final: Path, tell: Tell) -> Converted:
    """Converts the model in `folder` to the GGUF file `final`.

    Raises `UnknownModel` for a folder without a model, `UnsupportedModel` for a model that cannot be converted,
    `CorruptModel` for a broken one, `DiskFull`, `HomeError`.
    """
    model = read_folder(folder)
    told = hyperparameters(model.config)
    made = conversions(told, model.config, model.tensors)
    plan = ShardPlan(
        told.architecture, _keys(model, told), (*_factors(told), *(Source(c.info.name, c.info) for c in made))
    )
    head = header_bytes(plan)
    total = padded(len(head)) + sum(padded(source.info.n_bytes) for source in plan.sources)
    check_room(final.parent, total, final.name)
    with replacing(final) as partial_path, partial_path.open("wb") as out:
        _put(out, head)
        for source in plan.sources[: -len(made)]:
            _put(out, source.content or b"")
        loss = _write_weights(out, made, lambda done: tell(Progressed(done, total)))
    return Converted(told.architecture, total, loss.relative)


def _write_weights(out: BinaryIO, made: Sequence[Conversion], tell: Callable[[int], None]) -> Loss:
    """Writes all tensors, and tells the length of the file after each. Returns what was lost."""
    loss = Loss()
    with ThreadPoolExecutor(min(THREADS_MAX, os.cpu_count() or 1), "weights") as pool:
        for conversion in made:
            for packed, lost in _converted(conversion, pool):
                out.write(packed.data)
                loss.add(lost)
            _put(out, b"")
            tell(out.tell())
    return loss


def _put(out: BinaryIO, content: bytes) -> None:
    """Writes, and fills up to where the next tensor starts."""
    out.write(content)
    out.write(bytes(padded(out.tell()) - out.tell()))


def _factors(told: Hyperparameters) -> Iterator[Source]:
    if told.rope_factors is not None:
        content = told.rope_factors.astype("<f4").tobytes()
        yield Source(
            ROPE_FACTORS,
            TensorInfo(ROPE_FACTORS, told.rope_factors.shape, GGMLQuantizationType.F32, 0, len(content)),
            content,
        )


def _keys(model: ModelFolder, told: Hyperparameters) -> dict[str, Entry]:
    """The metadata of the header."""
    eos_ids = [*_ids(model.generation), *_ids(model.config)]
    return {
        "general.name": entry_of(_title(model.name, strips=strips_blanks(model.tokenizer))),
        "general.quantization_version": entry_of(QUANTISATION_VERSION),
        **told.keys,
        **tokenizer_keys(model.tokenizer, model.tokenizer_config, model.chat_template, eos_ids, told.vocabulary),
    }


def _title(name: str, *, strips: bool) -> str:
    """The name in the header. llama.cpp looks for `phi-3` or `phi3` in it."""
    is_phi3 = _PHI3 in name.lower() or _PHI3.replace("-", "") in name.lower()
    if strips == is_phi3:
        return name
    return f"{_PHI3} {name}" if strips else "imported"


def _ids(settings: Settings) -> list[int]:
    """The tokens that end an answer: one, or several."""
    value: object = settings.raw("eos_token_id")
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, int) and not isinstance(item, bool) and item >= 0]


def _converted(made: Conversion, pool: ThreadPoolExecutor) -> Iterator[tuple[Bytes, Loss]]:
    """The tensor's bytes in order, in slices, with what each lost."""
    rows = made.rows
    unit = made.permute or 1
    step = max(1, SLICE_WEIGHTS // made.info.shape[0] // unit) * unit if rows > 1 else rows
    stored = [tensor for tensor in (made.weight, made.scales, made.biases) if tensor is not None]
    ranges = [(first, min(step, rows - first)) for first in range(0, rows, step)]
    with ExitStack() as stack:
        files = [stack.enter_context(tensor.path.open("rb", buffering=0)) for tensor in stored]
        for wave in (ranges[at : at + THREADS_MAX] for at in range(0, len(ranges), THREADS_MAX)):
            read = [[_rows(*each, rows, *span) for each in zip(files, stored, strict=True)] for span in wave]
            yield from pool.map(partial(_slice, made), read)


def _rows(file: Any, tensor: StoredTensor, rows: int, first: int, count: int) -> Bytes:
    """The bytes of `count` of the tensor's rows, shape (rows, bytes of a row). Raises `CorruptModel`."""
    row_bytes = tensor.n_bytes // rows
    data = np.empty((count, row_bytes), np.uint8)
    file.seek(tensor.offset + first * row_bytes)
    if file.readinto(data.reshape(-1).data) != data.nbytes:
        raise damaged(tensor.path, "it became shorter while it was read")
    return data


def _slice(made: Conversion, read: Sequence[Bytes]) -> tuple[Bytes, Loss]:
    """One slice, from the bytes of its weights, scales and biases to those in the file."""
    weight = read[0]
    if made.info.type is GGMLQuantizationType.F32 and len(made.info.shape) == 1:
        values = _finite(floats(weight.reshape(-1), made.weight.dtype), made)
        values = values + np.float32(1) if made.plus_one else values
        values = permuted(values, made.permute) if made.permute else values
        return values.astype("<f4").view(np.uint8), Loss()
    read = [permuted(each, made.permute) for each in read] if made.permute else read
    if made.quantisation is None or made.scales is None or made.biases is None:
        values = _finite(floats(read[0].reshape(-1), made.weight.dtype), made)
        return read[0].reshape(-1), Loss(0.0, float(np.vdot(values, values)))  # nothing is lost, but it counts
    bits = made.quantisation.bits
    scale, bias = (
        floats(each.reshape(-1), tensor.dtype).reshape(len(each), -1)
        for each, tensor in zip(read[1:], (made.scales, made.biases), strict=True)
    )
    packed, lost = quantised_blocks(numbers(read[0], bits), scale, bias, bits)
    return packed.reshape(-1), lost


def _finite(values: npt.NDArray[np.float32], made: Conversion) -> npt.NDArray[np.float32]:
    if not np.isfinite(values).all():
        raise damaged(made.weight.path, "some of its weights are no numbers")
    return values
