"""Shards cut from a model file in this process, without store and child, for tests of what stands in them."""

from __future__ import annotations

from pathlib import Path

from peerinfer.models.assembly import Assembly
from peerinfer.models.fingerprint import fingerprint
from peerinfer.models.gguf import read_header
from peerinfer.models.holdings import Dossier
from peerinfer.models.inspection import Question, inspect
from peerinfer.models.layout_writer import layout_for
from peerinfer.models.shards import ShardKey


def dossier_of(model: Path) -> Dossier:
    """All about a model in one file."""
    inspection = inspect(Question((str(model),), False))
    manifest = fingerprint((model,), inspection)
    return Dossier(manifest.digest, manifest, inspection, (model,), False)


def cut(model: Path, key: ShardKey, folder: Path) -> Path:
    """The shard `key` of the file `model`, written into `folder`; a `whole` is the model itself."""
    if key.kind == "whole":
        return model
    dossier = dossier_of(model)
    assembly = Assembly(folder / key.file_name, layout_for(read_header(model), key), dossier.manifest)
    assembly.open()
    for source in dossier.own_sources():
        assembly.fill(source, lambda: None)
    return assembly.finish()
