import csv
import io
import json

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import PromptReference, ResourceTemplateReference

from server import pages
from server.mcp_app import create_server
from server.settings import Settings

MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])
BACKTEST = {"strategy": "ema_cross", "symbol": "BTCUSDT", "interval": "60", "start": "2024-01-01", "end": "2024-01-20"}


async def read(client: Client, uri: str) -> str:
    return (await client.read_resource(uri)).contents[0].text


async def refusal(client: Client, uri: str) -> MCPError:
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    return caught.value


async def test_a_stored_run_can_be_read_as_result_trades_and_equity(settings: Settings):
    async with Client(create_server(settings)) as client:
        answer = (await client.call_tool("run_backtest", BACKTEST)).structured_content
        run_id = answer["run_id"]
        result = json.loads(await read(client, f"run://{run_id}"))
        trades = list(csv.DictReader(io.StringIO(await read(client, f"run://{run_id}/trades.csv"))))
        equity = list(csv.DictReader(io.StringIO(await read(client, f"run://{run_id}/equity.csv"))))
        listed = json.loads(await read(client, "index://runs"))
        missing = await refusal(client, "run://run_000000000000")
        completed = await client.complete(
            ResourceTemplateReference(uri="run://{run_id}"), {"name": "run_id", "value": ""}
        )
    assert result["metrics"] == answer["metrics"]
    assert len(trades) == answer["metrics"]["trades"]
    assert sum(float(trade["pnl"]) for trade in trades) == pytest.approx(answer["metrics"]["net_profit"], abs=1e-6)
    assert float(equity[-1]["equity"]) == pytest.approx(answer["metrics"]["final_equity"])
    assert [row["run_id"] for row in listed["items"]] == [run_id]
    assert missing.code == -32602
    assert run_id in missing.message
    assert completed.completion.values == [run_id]


@MODES
async def test_strategies_can_be_read_and_are_listed(settings: Settings, mode: str):
    async with Client(create_server(settings), mode=mode) as client:
        listed = json.loads(await read(client, "index://strategies"))
        document = json.loads(await read(client, "strategy://ema_cross"))
        missing = await refusal(client, "strategy://ema_crosss")
    assert "strategy://ema_cross" in [row["uri"] for row in listed["items"]]
    assert document["name"] == "ema_cross"
    assert missing.code == -32602
    assert "ema_cross" in missing.message


@MODES
async def test_documentation_pages_are_the_files_of_the_docs_folder(settings: Settings, mode: str):
    async with Client(create_server(settings), mode=mode) as client:
        listed = json.loads(await read(client, "index://docs"))
        text = await read(client, "docs://architecture")
        missing = await refusal(client, "docs://archtecture")
    assert {row["name"] for row in listed["items"]} == {file.stem for file in pages.FOLDER.glob("*.md")}
    assert text == (pages.FOLDER / "architecture.md").read_text(encoding="utf-8")
    assert missing.code == -32602
    assert "architecture" in missing.message


@pytest.mark.parametrize("name", ["..%2FREADME", "%2E%2E%5CREADME", "..", "%2Fetc%2Fpasswd", "a%00b"])
async def test_a_page_name_cannot_leave_the_folder(settings: Settings, name: str):
    async with Client(create_server(settings)) as client:
        assert (await refusal(client, f"docs://{name}")).code == -32602


def test_no_page_name_opens_a_file_that_is_not_listed():
    assert pages.page_text("../README") is None


async def test_templates_say_how_long_they_may_be_kept(settings: Settings):
    async with Client(create_server(settings)) as client:
        templates = await client.list_resource_templates()
        listed = await client.list_resources()
    assert {each.uri_template for each in templates.resource_templates} == {
        "run://{run_id}",
        "run://{run_id}/trades.csv",
        "run://{run_id}/equity.csv",
        "strategy://{name}",
        "docs://{page}",
    }
    assert templates.ttl_ms == 3_600_000
    assert listed.ttl_ms == 60_000


@MODES
@pytest.mark.parametrize(
    ("argument", "typed", "expected"),
    [
        ("strategy", "ema", "ema_cross"),
        ("metric", "sharpe", "sharpe"),
        ("indicator", "rsi", "rsi"),
        ("page", "archi", "architecture"),
    ],
)
async def test_arguments_are_completed(settings: Settings, mode: str, argument: str, typed: str, expected: str):
    reference = PromptReference(name="search_for_parameters")
    async with Client(create_server(settings), mode=mode) as client:
        answer = await client.complete(reference, {"name": argument, "value": typed})
    assert expected in answer.completion.values


async def test_symbols_are_completed_from_what_is_stored_already(settings: Settings):
    reference = PromptReference(name="test_an_idea")
    async with Client(create_server(settings)) as client:
        before = await client.complete(reference, {"name": "symbol", "value": "BTC"})
        await client.call_tool("search_instruments", {"query": "BTC"})
        after = await client.complete(reference, {"name": "symbol", "value": "BTC"})
    assert before.completion.values == []
    assert "BTCUSDT" in after.completion.values
