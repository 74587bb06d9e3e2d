"""The three workflows as prompts; their texts are the files of this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, Prompt
from pydantic import Field

if TYPE_CHECKING:
    from mcp.server import MCPServer

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


def check_prompt_call(prompts: Sequence[Prompt], name: str, arguments: Mapping[str, str]) -> None:
    """Refuse an unknown prompt, and arguments that are missing or unknown, as the protocol's invalid params."""
    wanted = next((prompt for prompt in prompts if prompt.name == name), None)
    if wanted is None:
        known = ", ".join(prompt.name for prompt in prompts)
        raise MCPError(INVALID_PARAMS, f"there is no prompt {name[:64]!r}; there are {known}")
    takes = {argument.name: argument.required for argument in wanted.arguments or ()}
    wrong = [f"{each!r} is missing" for each, required in takes.items() if required and each not in arguments]
    wrong += [f"{each[:64]!r} is unknown" for each in arguments if each not in takes]
    if wrong:
        raise MCPError(
            INVALID_PARAMS, f"prompt {name!r}: {', '.join(wrong[:10])}; it takes {', '.join(takes) or 'none'}"
        )


def add_prompts(server: MCPServer[Any]) -> None:
    """Offer the prompts."""
    for function in (test_an_idea, search_for_parameters, judge_a_result):
        server.prompt(title=function.__name__.replace("_", " ").capitalize())(function)
