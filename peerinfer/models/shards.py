"""Shard files: small GGUF files, cut from a model, that stock llama.cpp loads and that hold one stage's layers only.

What stands in each kind of shard is told in `shard_writer.py`; here a shard has its key and is written just once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from peerinfer.errors import ModelError, UnsupportedModel
from peerinfer.models.atomic import check_room, remove_leftovers, replacing
from peerinfer.models.gguf import read_header
from peerinfer.models.shard_writer import plan_stage, plan_vocabulary, write_shard

WRITER_VERSION = 2
"""Raised with every change of what `shard_writer.py` writes, so that shards of an older peerinfer are not reused."""
KINDS = ("trunk", "last", "vocab", "whole")
"""`trunk`: every stage but the last. `last`: with the head. `vocab`: tokenizer only. `whole`: the model file itself."""

Progress = Callable[[float], None]
"""Told the share of the work that is done, 0 … 1, by the thread that does it."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ShardKey:
    """What makes two shard files the same: the model's digest, the layers, the kind and the version of this writer."""

    digest: str
    """SHA-256 of the model file, 64 hex digits."""
    first_layer: int
    last_layer: int
    """Half-open: the layer after the last one. A `vocab` has the layers 0-0."""
    kind: str
    """One of `KINDS`."""
    writer_version: int = WRITER_VERSION

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest) or self.kind not in KINDS:
            raise UnsupportedModel("A shard is named by 64 hex digits and its kind; this one is not. Load it again.")

    @property
    def file_name(self) -> str:
        """Name of the shard file in its folder; made of checked parts only."""
        layers = f"{int(self.first_layer)}-{int(self.last_layer)}"
        return f"{self.digest}-{layers}-{self.kind}-v{int(self.writer_version)}.gguf"


def stage_key(digest: str, first_layer: int, last_layer: int, n_layers: int) -> ShardKey:
    """The key of the stage with layers `first_layer` … `last_layer - 1` of a model of `n_layers`."""
    if last_layer < n_layers:
        return ShardKey(digest, first_layer, last_layer, "trunk")
    return ShardKey(digest, first_layer, last_layer, "last" if first_layer else "whole")


def vocab_key(digest: str) -> ShardKey:
    """The key of the vocabulary-only file of a model."""
    return ShardKey(digest, 0, 0, "vocab")


def ensure_shard(model: Path, key: ShardKey, folder: Path, progress: Progress | None = None) -> Path:
    """The path of the shard `key` of the file `model`, written into `folder` unless it is there already.

    The caller vouches that `key.digest` is the digest of `model`. Safe for several writers at once, and against a
    crash at any point. Raises `UnsupportedModel` for a range that may not be a stage, `CorruptModel`, `DiskFull`.
    """
    if key.kind == "whole":
        return model
    final = folder / key.file_name
    if _is_whole(final):
        return final
    header = read_header(model)
    if key.kind == "vocab":
        plan = plan_vocabulary(header)
    else:
        plan = plan_stage(header, key.first_layer, key.last_layer, key.kind)
    check_room(folder, plan.n_bytes, f"A shard of {header.name}")
    remove_leftovers(folder)
    with replacing(final) as partial:
        write_shard(plan, model, partial, progress or _silent)
    return final


def _silent(_share: float) -> None:
    """Nobody wants to know."""


def _is_whole(path: Path) -> bool:
    """Whether a shard is there with all its weights, as every one that was renamed is unless the disk failed."""
    if not path.is_file():
        return False
    try:
        read_header(path)
    except ModelError:
        return False
    return True
