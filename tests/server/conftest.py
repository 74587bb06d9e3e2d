"""Fixtures of the server's tests: settings with generated data in a folder of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a server that needs no network and leaves nothing behind."""
    return Settings.model_validate({"home": tmp_path / "home", "feed": "simulated"})
