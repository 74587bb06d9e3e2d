"""`bst exchange`: the simulated exchange on a port of this machine."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from server.commands.output import telling_errors

if TYPE_CHECKING:
    from engine.market.exchange import SimulatedExchange


@click.command(short_help="Serve the simulated exchange (Bybit v5 wire format).")
@click.option("--port", required=True, type=click.IntRange(0, 65_535), help="0 picks a free port.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Serve the candle files of this folder instead of generated candles.",
)
@click.option(
    "--faults", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Fault script (JSON) to play."
)
@click.option("--seed", default=7, show_default=True, type=click.IntRange(0), help="Same seed, same candles.")
@click.option(
    "--rate-limit/--no-rate-limit", default=False, show_default=True, help="Bybit's 600 requests in 5 s and ban."
)
@click.option("--control", is_flag=True, help="Answer /_control/ (faults, clock, journal).")
@click.option(
    "--unaligned-start",
    type=click.Choice(["containing", "next"]),
    default="containing",
    show_default=True,
    help="Which bar an unaligned start begins with.",
)
@telling_errors()
def exchange(
    port: int,
    host: str,
    data: Path | None,
    faults: Path | None,
    seed: int,
    rate_limit: bool,
    control: bool,
    unaligned_start: Literal["containing", "next"],
) -> None:
    """Serve Bybit's public v5 REST API from generated or recorded candles, and print its address on one line.

    Point BYBIT_REST_URL at that address. Every answer says that it is not the real exchange.
    """
    from engine.market.exchange import RateLimit, SimulatedExchange, load_fault_script

    application = SimulatedExchange(
        seed=seed,
        data=data,
        faults=None if faults is None else load_fault_script(faults),
        unaligned_start=unaligned_start,
        rate_limit=RateLimit() if rate_limit else None,
        control=control,
    )
    serve_until_stopped(application, open_port(host, port))


def open_port(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; a taken port is wrong usage."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_REUSEADDR") and not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            # On Windows the option would let two programs share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise click.UsageError(
            f"{host}:{port} cannot be opened: {error.strerror}; --port 0 picks a free one"
        ) from error
    return listener


def serve_until_stopped(application: SimulatedExchange, listener: socket.socket) -> None:
    """Serve on the open socket until SIGTERM or Ctrl-C, without waiting for clients that hang on."""
    import uvicorn

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            click.echo(f"http://{shown}:{port}")

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            self.force_exit = True  # do not wait for answers that a fault script holds back
            await super().shutdown(sockets)

    config = uvicorn.Config(application, log_level="warning", access_log=False, lifespan="off")
    try:
        Announcing(config).run(sockets=[listener])
    except KeyboardInterrupt:  # how uvicorn passes Ctrl-C on after it has shut down; being stopped is no error
        return
    finally:
        listener.close()
