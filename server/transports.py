"""The two transports: stdio, whose stdout carries the protocol and nothing else, and HTTP on a guarded address."""

from __future__ import annotations

import io
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TextIO

from engine.errors import BadRequest
from server.collector import undisturbed_start

# The SDK takes most of a second to import and stdout must be guarded before that, so it is imported in the functions.
if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from server.lab_server import LabServer
    from server.settings import Settings

LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
LIVE_PATH: Final = "/health/live"

# The descriptor of the real stdout once it has been put away; a process has one.
_kept_stdout: list[int] = []


def guard_stdout() -> int:
    """Put the real stdout away for the protocol, point file descriptor 1 at stderr for good, return the kept one.

    Whatever prints from here on (imports, tools, children, exit handlers) reaches stderr.
    """
    if not _kept_stdout:
        sys.stdout.flush()
        _kept_stdout.append(os.dup(1))
        try:
            os.dup2(2, 1)
        except OSError:  # stderr is closed
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)
        _tell_windows()
    return _kept_stdout[0]


def _tell_windows() -> None:
    """Make children inherit the new descriptor 1: Windows keeps its own record of the standard handles."""
    if sys.platform == "win32":
        from mcp.os.win32.utilities import rebind_std_handle_to_fd  # exists on Windows only

        rebind_std_handle_to_fd(1)


def serve_stdio(settings: Settings, *, warm_up: bool = True) -> None:
    """Serve MCP over stdin and the stdout this process was started with, until stdin ends."""
    guard_stdout()
    with undisturbed_start():
        import anyio

        server = _new_server(settings, warm_up=warm_up)
    with open_protocol_stream() as stdout:
        anyio.run(server.serve_streams, stdout)


def open_protocol_stream() -> TextIO:
    """Return a text stream on the real stdout; closing it leaves the descriptor open, as a thread may still write."""
    return io.TextIOWrapper(os.fdopen(guard_stdout(), "wb", closefd=False), encoding="utf-8", newline="\n")


def serve_http(
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8765,
    path: str = "/mcp",
    *,
    allowed_hosts: Sequence[str] = (),
    warm_up: bool = True,
) -> None:
    """Serve MCP over streamable HTTP until interrupted; the address is printed on stderr.

    Parameters
    ----------
    settings : Settings
    host : str
        Address to listen on; any but a loopback one needs `BST_HTTP_TOKEN`.
    port : int
        0 takes a free one.
    path : str
        Where the protocol is served; `/health/live` answers beside it.
    allowed_hosts : sequence of str
        Further names clients may use for this server (a proxy's, a container's).
    warm_up : bool
        Load the heavy modules in the background after the first tool list.
    """
    refuse_open_address(settings, host)
    with undisturbed_start():
        server = _new_server(settings, warm_up=warm_up)
    run_http(server, settings, host, port, path, allowed_hosts=allowed_hosts)


def _new_server(settings: Settings, *, warm_up: bool) -> LabServer:
    from server.logs import configure_logging
    from server.mcp_app import create_server
    from server.warmup import WarmUp

    configure_logging(settings.log_level)
    server = create_server(settings)
    server.keeper.has_workers = True
    if warm_up:
        server.middleware.append(WarmUp(server.keeper))
    return server


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def refuse_open_address(settings: Settings, host: str) -> None:
    """Refuse to serve the network without a token."""
    token = settings.http_token
    if not is_loopback(host) and (token is None or not token.get_secret_value()):
        raise BadRequest(
            f"{host!r} can be reached from other machines, and there is no token to keep strangers out",
            fix="set BST_HTTP_TOKEN to a long random text, or serve 127.0.0.1",
        )


def run_http(
    server: LabServer,
    settings: Settings,
    host: str,
    port: int,
    path: str = "/mcp",
    *,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serve this server over HTTP; Host, Origin, token and body size are checked before anything else is looked at."""
    import uvicorn

    refuse_open_address(settings, host)
    app = http_app(server, settings, host, path, allowed_hosts=allowed_hosts)
    listening = _listen(host, port)
    shown_host = f"[{host}]" if ":" in host else host
    sys.stderr.write(f"serving MCP on http://{shown_host}:{listening.getsockname()[1]}{path}\n")
    sys.stderr.flush()
    uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=2,
        )
    ).run(sockets=[listening])


def http_app(
    server: LabServer, settings: Settings, host: str, path: str = "/mcp", *, allowed_hosts: Sequence[str] = ()
) -> ASGIApp:
    """Return the ASGI application of this server as it is served on `host`."""
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response

    from server.bearer import BearerGate

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    server.custom_route(LIVE_PATH, methods=["GET"])(live)
    names = host_names(host, allowed_hosts)
    app = server.streamable_http_app(
        streamable_http_path=path,
        max_request_body_size=MAX_BODY_BYTES,
        transport_security=TransportSecuritySettings(
            allowed_hosts=[*names, *(f"{name}:*" for name in names)],
            allowed_origins=[
                origin for name in names for origin in (f"http://{name}", f"http://{name}:*", f"https://{name}")
            ],
        ),
    )
    token = settings.http_token
    if token is None or not token.get_secret_value():
        return app
    return BearerGate(app, token.get_secret_value(), open_paths=(LIVE_PATH,))


def host_names(host: str, more: Sequence[str] = ()) -> list[str]:
    """Return the names a client may call this server by; a page of another site cannot make a browser use them."""
    names = [*LOOPBACK_NAMES, *more]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - recognised, not bound here
        machine = socket.gethostname()
        found = {str(address[4][0]) for address in _addresses(machine)}
        names += [machine, *sorted(f"[{address}]" if ":" in address else address for address in found)]
    elif not is_loopback(host) or host not in names:
        names.append(f"[{host}]" if ":" in host else host)
    return list(dict.fromkeys(names))


def _addresses(machine: str) -> list[tuple[object, object, object, object, tuple[object, ...]]]:
    try:
        return list(socket.getaddrinfo(machine, None))
    except OSError:  # a machine whose own name does not resolve
        return []


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=128)
    except OSError as error:
        raise BadRequest(
            f"cannot listen on {host!r} port {port}: {error.strerror or 'refused'}",
            fix="--port 0 takes a free port; --host takes an address of this machine",
        ) from error
