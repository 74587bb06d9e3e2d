"""Portfolio runs and tables of runs through an MCP client: stored, listed, proved, bounded, and refused by name."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from server.mcp_app import create_server
from server.settings import Settings

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
RANGE = {"start": "2024-01-01", "end": "2024-03-01", "interval": "240"}
SHARED = {"strategy": "ema_cross", "symbols": SYMBOLS, "max_positions": 2, **RANGE}
ALONE = {"strategy": "ema_cross", "symbol": "BTCUSDT", **RANGE}
EVERY_TABLE = ["months", "years", "drawdowns", "rolling_sharpe", "sides"]
# JSON of figures has at least two characters a token.
DEFAULT_CHARACTERS, MOST_CHARACTERS = 2 * 2_000 + 1_000, 16_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"home": tmp_path / "home", "feed": "simulated"})


async def call(client: Client, tool: str, arguments: dict[str, Any], *, fails: bool = False) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert bool(result.is_error) == fails, result.structured_content
    assert result.structured_content is not None
    return result.structured_content


async def test_a_portfolio_is_a_stored_run_that_adds_up_and_comes_out_again(settings: Settings) -> None:
    async with Client(create_server(settings)) as client:
        run = await call(client, "run_backtest", SHARED)
        again = await call(client, "run_backtest", SHARED)
        other_order = await call(client, "run_backtest", SHARED | {"symbols": SYMBOLS[::-1]})
        handle = {"run_id": run["run_id"]}
        proof = await call(client, "reproduce_run", handle | {"prove_causality": 3})
        listed = await call(client, "list_runs", {"symbol": "ethusdt"})
        unlisted = await call(client, "list_runs", {"symbol": "USDT"})
        trades = await call(client, "get_trades", handle | {"limit": 500})
        table = (await client.read_resource(f"run://{run['run_id']}/trades.csv")).contents[0].text
        chart = await client.call_tool("show_chart", handle)
        compared = await call(
            client, "compare_with_tradingview", handle | {"path": str(trade_list(settings.home))}, fails=True
        )

    assert again == run
    assert other_order["run_id"] != run["run_id"]
    shares = {row[0]: dict(zip(run["portfolio"]["columns"], row, strict=True)) for row in run["portfolio"]["rows"]}
    assert list(shares) == SYMBOLS
    metrics = run["metrics"]
    for share, metric in (("net_profit", "net_profit"), ("fees", "fees_paid"), ("funding", "funding_paid")):
        assert sum(one[share] for one in shares.values()) == pytest.approx(metrics[metric], abs=1e-3)
    assert run["portfolio"]["peak_positions"] <= 2
    assert metrics["funding_paid"] != 0

    assert (proof["identical"], proof["data_unchanged"], proof["differences"]) == (True, True, [])
    assert proof["causality"]["causal"]
    assert {row["run_id"] for row in listed["items"]} == {run["run_id"], other_order["run_id"]}
    assert unlisted["items"] == []

    assert len(trades["items"]) == metrics["trades"] == len(list(csv.DictReader(io.StringIO(table))))
    times = [trade["entry_time"] for trade in trades["items"]]
    assert times == sorted(times)
    for symbol, share in shares.items():
        mine = [trade for trade in trades["items"] if trade["symbol"] == symbol]
        assert len(mine) == share["trades"] > 0
        assert sum(trade["pnl"] for trade in mine) == pytest.approx(share["net_profit"], rel=1e-6)
    assert any(part.type == "image" for part in chart.content)
    assert compared["code"] == "bad_request"
    assert "several symbols" in compared["message"]


def trade_list(folder: Path) -> Path:
    file = folder / "trades.csv"
    file.write_text(
        "Trade #,Type,Date/Time,Signal,Price USDT,Position size (qty),Net P&L USDT\n"
        "1,Entry long,2024-01-02 04:00,L,62000,0.1,10\n1,Exit long,2024-01-02 08:00,X,62100,0.1,10\n",
        encoding="utf-8",
    )
    return file


async def test_a_portfolio_whose_candles_changed_does_not_pass_as_proved(settings: Settings, tmp_path: Path) -> None:
    changed = tmp_path / "changed.csv"
    changed.write_text("time,open,high,low,close,volume\n2024-02-01T00:00:00Z,1,2,1,2,5\n", encoding="utf-8")
    async with Client(create_server(settings)) as client:
        run = await call(client, "run_backtest", SHARED)
        imported = {"path": str(changed), "symbol": "ETHUSDT", "interval": "240"}
        await call(client, "import_candles", imported)
        proof = await call(client, "reproduce_run", {"run_id": run["run_id"]})
        refused = await call(client, "get_run", {"run_id": run["run_id"], "blocks": ["correlations"]}, fails=True)
    assert (proof["identical"], proof["data_unchanged"]) == (False, False)
    assert refused["code"] == "data_missing"


# What is changed in the request, and what the error must name.
REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"settings": {"intrabar": "magnify"}}, "magnify"),
    ({"category": "inverse", "symbols": ["BTCUSD", "ETHUSD"]}, "own coin"),
    ({"symbols": ["BTCUSDT", "btcusdt"]}, "twice"),
    ({"symbols": ["BTCUSDT"]}, "symbols"),
    ({"symbol": "XRPUSDT"}, "not among symbols"),
    ({"symbols": None}, "no symbol is named"),
    ({"symbols": None, "symbol": "BTCUSDT"}, "max_positions"),
    ({"weights": "momentum"}, "inverse_volatility"),
    ({"settings": {"capital": 900_000_000, "leverage": 2}}, "maintenance tier"),
    ({"strategy": {"partial_take_profits": [{"percent": 3, "fraction": 0.5}]}}, "partial"),
    ({"strategy": {"max_entries": 2}}, "several entries"),
    ({"strategy": {"entry_order": {"type": "limit", "percent": 1, "bars": 3}}}, "resting"),
]
DOCUMENT = {"name": "mine", "long_entry": "crossover(close, sma(close, 20))", "long_exit": "close < sma(close, 20)"}


async def test_what_shared_capital_does_not_model_is_refused_by_name(settings: Settings) -> None:
    async with Client(create_server(settings)) as client:
        for change, named in REFUSALS:
            request = SHARED | change
            if isinstance(request["strategy"], dict):
                request["strategy"] = DOCUMENT | request["strategy"]
            request = {name: value for name, value in request.items() if value is not None}
            error = await call(client, "run_backtest", request, fails=True)
            assert error["code"] == "bad_request", error
            assert named in error["message"] + error["fix"], error
            assert error["fix"]
        assert (await call(client, "list_runs", {}))["total"] == 0


async def test_tables_come_on_request_agree_with_the_figures_and_stay_small(settings: Settings) -> None:
    async with Client(create_server(settings)) as client:
        alone = await call(client, "run_backtest", ALONE)
        shared = await call(client, "run_backtest", SHARED)
        card = await call(client, "get_run", {"run_id": alone["run_id"], "blocks": [*EVERY_TABLE, "tradingview"]})
        heavy = await call(
            client, "get_run",
            {"run_id": shared["run_id"], "blocks": [*EVERY_TABLE, "correlations"], "equity_points": 60},
        )  # fmt: skip
        of_one = await call(client, "get_run", {"run_id": alone["run_id"], "blocks": ["correlations"]}, fails=True)
        of_many = await call(client, "get_run", {"run_id": shared["run_id"], "blocks": ["tradingview"]}, fails=True)

    metrics, blocks = alone["metrics"], card["blocks"]
    growth = math.prod(1 + row[1] for row in blocks["months"]["rows"]) - 1
    assert growth == pytest.approx(metrics["total_return"], abs=1e-5)
    assert [row[0] for row in blocks["months"]["rows"]] == ["2024-01", "2024-02"]
    assert blocks["years"]["rows"][0][1] == pytest.approx(metrics["total_return"], rel=1e-5)
    assert blocks["drawdowns"]["rows"][0][0] == pytest.approx(metrics["max_drawdown"], rel=1e-5)
    sides = {row[0]: row[1:] for row in blocks["sides"]["rows"]}
    assert sides["trades"] == [metrics["long_trades"], metrics["short_trades"]]
    assert sum(sides["net_profit"]) == pytest.approx(metrics["net_profit"], rel=1e-4)
    view = {row[0]: row[1:] for row in blocks["tradingview"]["rows"]}
    assert view["total_closed_trades"][0] + view["total_open_trades"][0] == metrics["trades"]
    # Two months have no 90 daily returns.
    assert blocks["rolling_sharpe"] == {"columns": ["day", "sharpe_90d"], "rows": [], "total": 0}

    table = heavy["blocks"]["correlations_of_returns"]
    assert table["columns"] == ["symbol", *SYMBOLS]
    cells = [row[1:] for row in table["rows"]]
    assert [cells[row][row] for row in range(3)] == [1.0, 1.0, 1.0]
    assert cells[0][1] == cells[1][0]
    pairs = (cells[0][1] + cells[0][2] + cells[1][2]) / 3
    assert pairs == pytest.approx(shared["portfolio"]["mean_correlation"], abs=0.006)
    assert len(json.dumps(shared, separators=(",", ":"))) <= DEFAULT_CHARACTERS
    assert len(json.dumps(heavy, separators=(",", ":"))) <= MOST_CHARACTERS
    assert "truncated" not in heavy
    assert "several symbols" in of_one["fix"]
    assert "TradingView" in of_many["message"]
