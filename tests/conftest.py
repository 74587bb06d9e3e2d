"""Fixtures every test may use."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent

# The same examples on every run, and no verdict that depends on how fast the machine is.
settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Take back what a command that a test runs in this process sets up for its log."""
    loggers = [logging.getLogger(name) for name in ("", "server", "tools", "agents", "engine")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """Return the folder of real candles and payloads; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("BST_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared test data at {folder.name!r} (set BST_SHARED)")
    return folder
