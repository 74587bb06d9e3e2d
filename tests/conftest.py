"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent

# The same examples on every run, and no verdict that depends on how fast the machine is.
settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """Return the folder of real candles and payloads; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("BST_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared test data at {folder.name!r} (set BST_SHARED)")
    return folder
