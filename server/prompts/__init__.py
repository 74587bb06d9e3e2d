"""The three workflows as prompts; their texts are the files of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    from server.lab_server import LabServer

FOLDER = Path(__file__).parent

Symbol = Annotated[str, Field(description="Bybit symbol, e.g. BTCUSDT")]


def text_of(name: str) -> str:
    """Return the text of a prompt with its {places}."""
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def filled(name: str, **values: str) -> str:
    """Return the text of a prompt with its places filled; braces in the values stay as they are."""
    text = text_of(name)
    for place, value in values.items():
        text = text.replace(f"{{{place}}}", " ".join(value.split())[:2000])
    return text


def test_an_idea(idea: Annotated[str, Field(description="The idea in plain words")], symbol: Symbol) -> str:
    """Turn an idea into a strategy and find out whether the data refute it."""
    return filled("test_an_idea", symbol=symbol, idea=idea)


def search_for_parameters(
    strategy: Annotated[str, Field(description="Name of a strategy")],
    symbol: Symbol,
    metric: Annotated[str, Field(description="Figure to search by")] = "sharpe",
) -> str:
    """Search parameters with a period held back."""
    return filled("search_for_parameters", strategy=strategy, symbol=symbol, metric=metric)


def judge_a_result(run_id: Annotated[str, Field(description="From run_backtest or list_runs")]) -> str:
    """Look for reasons to reject a stored backtest."""
    return filled("judge_a_result", run_id=run_id)


def add_prompts(server: LabServer) -> None:
    """Offer the prompts."""
    for function in (test_an_idea, search_for_parameters, judge_a_result):
        server.prompt(title=function.__name__.replace("_", " ").capitalize())(function)
