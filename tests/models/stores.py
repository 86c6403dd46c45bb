"""Stores for tests: opened and ended, and small models to put into them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peerinfer.models.store import ModelStore
from tests.cutting import dossier_of
from tests.tiny import write_tiny_llama


class Stores:
    """Opens stores, and ends what they started."""

    def __init__(self) -> None:
        self._open: list[ModelStore] = []

    def __call__(self, home: Path, folders: Sequence[Path] = (), bundled: bool = False) -> ModelStore:
        self._open.append(ModelStore(home, folders, bundled))
        return self._open[-1]

    async def close(self) -> None:
        for store in self._open:
            await store.stop()


def put(home: Path, name: str, seed: int = 0) -> Path:
    return write_tiny_llama(home / "models" / name, layers=2, width=32, seed=seed)


def digest_of(path: Path) -> str:
    return dossier_of(path).digest
