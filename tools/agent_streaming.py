"""An agent's text on its way, as progress: pieces are gathered so that a few notifications a second carry all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agents.questions import AgentProgress
    from tools.declare import Progress

# A little slower than four times a second, which the progress channel lets through.
SECONDS_BETWEEN: Final = 0.27
# Readers of the progress tell pieces of text from news by this.
WRITES: Final = " writes: "


class Streaming:
    """Hears what an agent does and tells the caller, at most four times a second.

    Parameters
    ----------
    progress : Progress
        The caller's channel.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._pieces: list[str] = []
        self._tokens = 0
        self._told_at = 0.0
        self._writer = ""

    async def hear(self, event: AgentProgress) -> None:
        """Take one event; pieces of text wait for their turn, news of another attempt drop them."""
        self._tokens = max(self._tokens, event.tokens)
        now = asyncio.get_running_loop().time()
        if event.kind == "text":
            self._writer = event.agent
            self._pieces.append(event.text)
            if now - self._told_at < SECONDS_BETWEEN:
                return
            message = f"{event.agent}{WRITES}{''.join(self._pieces)}"
        elif event.kind == "reasoning":
            if now - self._told_at < SECONDS_BETWEEN:
                return
            message = f"{event.agent} is thinking"
        else:
            message = f"{event.agent}: {event.text or event.kind}"
        self._pieces.clear()
        self._told_at = now
        await self._progress(self._tokens, None, message)

    async def finish(self) -> None:
        """Tell the pieces that still wait."""
        if self._pieces:
            await self._progress(self._tokens, None, f"{self._writer}{WRITES}{''.join(self._pieces)}")
            self._pieces.clear()
