"""Logging: to stderr, configured once, without third-party chatter."""

from __future__ import annotations

import logging
import sys


def configure_logging(level: str) -> None:
    """Send our log lines of this level to stderr; other libraries speak from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("server", "tools", "agents", "engine"):
        logging.getLogger(name).setLevel(level)
