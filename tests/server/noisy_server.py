"""A server whose parts print wherever they can; run by the stdio tests."""

# ruff: noqa: E402, ASYNC221 - printing and blocking is what it is for

import atexit
import os
import subprocess
import sys
from contextlib import asynccontextmanager

from server.transports import guard_stdout

guard_stdout()
print("printed before serving")
atexit.register(print, "printed at exit")
atexit.register(os.write, 1, b"written at exit\n")

import anyio
from pydantic import BaseModel

from server.mcp_app import build_server
from server.transports import open_protocol_stream
from tools.declare import tool


class Said(BaseModel):
    """What was said."""

    said: str


@tool("reads")
async def shout() -> Said:
    """Print, write to descriptor 1, and let a child do the same."""
    print("printed by a tool")
    os.write(1, b"written by a tool\n")
    subprocess.run([sys.executable, "-c", "print('printed by a child')"], check=True)
    return Said(said="done")


@asynccontextmanager
async def lifespan(_server: object):
    """Open nothing."""
    yield None


with open_protocol_stream() as stdout:
    anyio.run(build_server([shout], version="0", lifespan=lifespan).serve_streams, stdout)
print("printed after serving")
