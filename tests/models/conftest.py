"""A home, and stores that end what they started."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

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
