"""Progress bars on stderr, for terminals only; where there is none, nothing is printed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.commands.connection import OnProgress


@contextmanager
def progress_bar(title: str) -> Generator[OnProgress]:
    """Show a bar with elapsed time and ETA while the block runs; yields the callback that moves it."""
    import sys

    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from server.commands.output import console_for_people

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console_for_people(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None, note="")

        async def move(progress: float, total: float | None, message: str | None) -> None:
            bars.update(task, completed=progress, total=total, note=message or "")

        yield move


async def _silent(progress: float, total: float | None, message: str | None) -> None:
    """Report to nobody."""
