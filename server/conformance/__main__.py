"""`python -m server.conformance --port N`: serve the profile over HTTP for the official suite."""

from __future__ import annotations

import argparse

from server.conformance.profile import create_conformance_server
from server.logs import configure_logging
from server.settings import Settings
from server.transports import run_http
from server.warmup import WarmUp


def main() -> None:
    """Serve until interrupted; the address is printed on stderr."""
    parser = argparse.ArgumentParser(prog="python -m server.conformance", description="Serve the conformance profile.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    options = parser.parse_args()
    settings = Settings.model_validate({})
    configure_logging(settings.log_level)
    server = create_conformance_server(settings)
    server.middleware.append(WarmUp(server.keeper))
    run_http(server, settings, options.host, options.port)


if __name__ == "__main__":
    main()
