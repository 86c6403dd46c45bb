"""The key of a shard file: small GGUF files, cut from a model, that stock llama.cpp loads and that hold one stage only.

What stands in each kind of shard is told in `shard_writer.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from peerinfer.errors import UnsupportedModel

WRITER_VERSION = 3
"""Raised with every change of what `shard_writer.py` plans, so that shards of an older peerinfer are not reused."""
KINDS = ("trunk", "last", "vocab", "whole", "embedding")
"""`trunk`: every stage but the last. `last`: with the head. `whole`: all of the model. `vocab`: tokenizer only.
`embedding`: the table that a first stage looks tokens up in."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"([0-9a-f]{64})-(\d{1,5})-(\d{1,5})-([a-z]{1,16})-v(\d{1,5})\.gguf")


@dataclass(frozen=True, slots=True)
class ShardKey:
    """What makes two shard files the same: the model's digest, the layers, the kind and the version of this writer."""

    digest: str
    """Of the model's manifest, 64 hex digits."""
    first_layer: int
    last_layer: int
    """Half-open: the layer after the last one. A `vocab` and an `embedding` have the layers 0-0."""
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


def embedding_key(digest: str) -> ShardKey:
    """The key of the file with nothing but the embedding table."""
    return ShardKey(digest, 0, 0, "embedding")


def key_of(file_name: str) -> ShardKey | None:
    """The key that gives this file name; None for the name of anything else."""
    match = _FILE.fullmatch(file_name)
    if match is None or match[4] not in KINDS:
        return None
    return ShardKey(match[1], int(match[2]), int(match[3]), match[4], int(match[5]))
