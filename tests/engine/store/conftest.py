"""A real store in a temporary folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.store.store import Store


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Return the URL of a fresh file."""
    return f"sqlite:///{(tmp_path / 'lab.db').as_posix()}"


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """Return an open store."""
    opened = await Store.open(database_url)
    yield opened
    await opened.close()
