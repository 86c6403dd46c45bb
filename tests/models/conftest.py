"""A home, and stores that end what they started."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from peerinfer.models import fetch, fingerprint, manifest
from peerinfer.models import library as library_module
from tests.models.house import CHUNK
from tests.models.stores import Stores


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path


@pytest.fixture
async def store_of() -> AsyncGenerator[Stores]:
    stores = Stores()
    yield stores
    await stores.close()


@pytest.fixture
def quick_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small chunks, so that a tiny model has many; short waits, since nothing here is far."""
    monkeypatch.setattr(manifest, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(fingerprint, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr("peerinfer.models.swarm.JOB_BYTES", 4 * CHUNK)
    monkeypatch.setattr(fetch, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(fetch, "RETRY_S", 0.05)
    monkeypatch.setattr(fetch, "STALL_S", 1.0)
    monkeypatch.setattr(library_module, "ASK_AGAIN_S", 0.05)
