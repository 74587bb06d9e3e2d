"""`bst serve`: the MCP server, over stdio or HTTP."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from server.commands.options import feed_option, home_option, settings_from
from server.commands.output import telling_errors


@click.command(
    short_help="Run the MCP server (stdio, or --http).",
    epilog="\b\nbst serve                       stdio, for VS Code, Claude Desktop and other clients\n"
    "bst serve --http --port 8765    http://127.0.0.1:8765/mcp",
)
@click.option("--http", is_flag=True, help="Streamable HTTP instead of stdio.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address of --http; others than loopback need a token."
)
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65_535), help="Port of --http.")
@click.option("--toolsets", help="Family names, core or all, by comma (BST_TOOLSETS).")
@click.option("--tools", help="Single tools, by comma (BST_TOOLS).")
@click.option("--exclude-tools", help="Tools to withhold, by comma (BST_EXCLUDE_TOOLS).")
@click.option("--read-only", is_flag=True, default=None, help="Only tools that change nothing (BST_READ_ONLY).")
@feed_option
@home_option
@telling_errors()
def serve(  # noqa: PLR0913 - one argument per flag
    http: bool,
    host: str,
    port: int,
    toolsets: str | None,
    tools: str | None,
    exclude_tools: str | None,
    read_only: bool | None,
    feed: str | None,
    home: Path | None,
) -> None:
    """Run the MCP server until it is interrupted or terminated, which is exit code 0 (over stdio SIGTERM kills it at once).

    Flags win over environment variables and .env.
    """
    from server.transports import guard_stdout, serve_http, serve_stdio

    if not http:
        guard_stdout()
        # The thread that reads stdin cannot be interrupted; a job of a terminated server is free for the next one at once.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    settings = settings_from(
        toolsets=toolsets, tools=tools, exclude_tools=exclude_tools, read_only=read_only, feed=feed, home=home
    )
    try:
        if http:
            serve_http(settings, host, port)
        else:
            serve_stdio(settings)
    except KeyboardInterrupt:
        # How uvicorn passes Ctrl-C and SIGTERM on after it has shut down; being stopped is no error of a server.
        return
