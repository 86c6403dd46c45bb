"""Models in several files: how the parts are named, and how their headers become one.

Format: `llama_split_path` of llama.cpp's llama.cpp and `tools/gguf-split`. The first part has the metadata, every part
says `split.no`, `split.count` and `split.tensors.count`, and each tensor lies whole in one part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from peerinfer.errors import CorruptModel
from peerinfer.models.gguf import TENSORS_MAX, GgufHeader, TensorInfo
from peerinfer.models.manifest import PARTS_MAX

_NUMBER_KEY = "split.no"
_COUNT_KEY = "split.count"
_TENSORS_KEY = "split.tensors.count"
_SPLIT_PREFIX = "split."
_PART = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf")


@dataclass(frozen=True, slots=True)
class PartName:
    """The name of one file of a model in several."""

    stem: str
    """What stands before the numbers; text from elsewhere, and no path until somebody has checked it."""
    number: int
    """1 … `count`."""
    count: int
    """1 … `PARTS_MAX`."""

    @property
    def file_name(self) -> str:
        """As llama.cpp spells it, such as `qwen-00002-of-00003.gguf`."""
        return f"{self.stem}-{self.number:05d}-of-{self.count:05d}.gguf"

    def all_file_names(self) -> tuple[str, ...]:
        """The names of all parts of this model, in order."""
        return tuple(PartName(self.stem, number, self.count).file_name for number in range(1, self.count + 1))


def part_name(file_name: str) -> PartName | None:
    """What `file_name` says of itself; None if it names no part, or one that cannot be, such as 4 of 3."""
    match = _PART.fullmatch(file_name)
    if match is None:
        return None
    part = PartName(match[1], int(match[2]), int(match[3]))
    return part if 1 <= part.number <= part.count <= PARTS_MAX else None


def merge_headers(headers: Sequence[GgufHeader]) -> GgufHeader:
    """The header of the model whose parts, in order, have these `headers`; `TensorInfo.part` counts them from 0.

    Name, metadata (without `split.*`), alignment and `data_offset` are those of the first part, `file_bytes` of all
    together; the offset of a tensor counts from the start of its own part. A single header that knows of no parts is
    returned as it is. Raises `CorruptModel` if a part is missing, in a wrong place, or of another model.
    """
    if not headers:
        raise CorruptModel("The model has no parts. Fetch it again.")
    first = headers[0]
    if len(headers) == 1 and _COUNT_KEY not in first.metadata:
        return first
    _check_count(headers)
    _check_places(headers)
    n_tensors = first.integer(_TENSORS_KEY)
    by_name: dict[str, TensorInfo] = {}
    for index, header in enumerate(headers):
        for tensor in header.tensors:
            other = by_name.get(tensor.name)
            if other is not None:
                raise _damaged(header, f"its tensor {tensor.name!r} stands in part {other.part + 1} too")
            by_name[tensor.name] = replace(tensor, part=index)
    if len(by_name) != n_tensors or n_tensors > TENSORS_MAX:
        raise _damaged(first, f"it promises {n_tensors} tensors in all its parts, and they have {len(by_name)}")
    return replace(
        first,
        metadata={key: value for key, value in first.metadata.items() if not key.startswith(_SPLIT_PREFIX)},
        types={key: kind for key, kind in first.types.items() if not key.startswith(_SPLIT_PREFIX)},
        tensors=tuple(by_name.values()),
        file_bytes=sum(header.file_bytes for header in headers),
        by_name=by_name,
    )


def _check_count(headers: Sequence[GgufHeader]) -> None:
    """Every part promises as many parts, and as many tensors, as the first one."""
    first = headers[0]
    count, n_tensors = first.integer(_COUNT_KEY), first.integer(_TENSORS_KEY)
    if not 1 <= count <= PARTS_MAX:
        raise _damaged(first, f"it claims to be one of {count} parts, and a model has 1 to {PARTS_MAX}")
    for place, header in enumerate(headers, 1):
        if header.integer(_COUNT_KEY) != count:
            raise _damaged(header, f"part {place} is one of {header.integer(_COUNT_KEY)} parts, part 1 of {count}")
        if header.integer(_TENSORS_KEY) != n_tensors:
            raise _damaged(header, f"part {place} is of another model than part 1")


def _check_places(headers: Sequence[GgufHeader]) -> None:
    """Every part is there once, in its place."""
    first = headers[0]
    count = first.integer(_COUNT_KEY)
    numbers = [header.integer(_NUMBER_KEY) for header in headers]
    missing = sorted(set(range(count)) - set(numbers))
    if missing:
        raise _damaged(first, f"part {missing[0] + 1} of its {count} parts is missing")
    for index, (header, number) in enumerate(zip(headers, numbers, strict=True)):
        if number != index:
            raise _damaged(header, f"it is part {number + 1} of {count} and stands in the place of part {index + 1}")


def _damaged(header: GgufHeader, what: str) -> CorruptModel:
    return CorruptModel(f"{header.name} is damaged: {what}. Fetch or convert it again.")
