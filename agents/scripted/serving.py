"""A scripted model server on a real port of this machine."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    from agents.scripted.application import ScriptedModel

_STOP_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A scripted model behind an address; `base_url(agent)` is what an agent's base-URL setting takes."""

    model: ScriptedModel
    url: str

    def base_url(self, agent: str) -> str:
        """Return the base address under which requests are logged as this agent's."""
        return f"{self.url}/{agent}"


@contextmanager
def serve(model: ScriptedModel, *, host: str = "127.0.0.1", port: int = 0) -> Generator[ServedModel]:
    """Serve a scripted model in a thread of its own until the block ends; port 0 picks a free one."""
    # Only needed when something is served.
    import uvicorn

    listening = _listen(host, port)

    class Hasty(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            self.force_exit = True  # do not wait for answers that a fault holds back
            await super().shutdown(sockets)

    # Cut connections are the purpose here, so uvicorn's complaints about them stay unsaid.
    server = Hasty(uvicorn.Config(model, log_config=None, log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="scripted-model", daemon=True)
    thread.start()
    try:
        yield ServedModel(model, f"http://{host}:{listening.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(timeout=_STOP_PATIENCE_S)
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    # asyncio switches off Nagle's algorithm only on sockets that name their protocol; with it every answer is 40 ms late.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.bind((host, port))
        listening.listen(512)
    except OSError:
        listening.close()
        raise
    return listening
