"""Every tool, through real MCP clients over stdio and HTTP, with right and with wrong arguments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from jsonschema import validate
from mcp import Client, StdioServerParameters

from tools.catalog import all_tools

SYMBOL = {"symbol": "BTCUSDT"}
RANGE = {"start": "2024-01-01", "end": "2024-01-08"}
BACKTEST = {"strategy": "ema_cross", "interval": "15", **SYMBOL, **RANGE}
# On a market of its own: its seal withholds nothing from the other calls.
SEALED_BACKTEST = {
    "strategy": "ema_cross",
    "symbol": "ETHUSDT",
    "interval": "240",
    "start": "2023-01-01",
    "end": "2023-06-01",
    "study": "every tool",
}
SEARCHED = {"strategy": "ema_cross", "interval": "60", "category": "spot", **SYMBOL, **RANGE}
PORTFOLIO = {"strategy": "ema_cross", "interval": "240", "symbols": ["BTCUSDT", "ETHUSDT"], "max_positions": 1, **RANGE}
DOCUMENT = {"name": "my_cross", "long_entry": "crossover(close, sma(close, 20))", "stop_loss": {"percent": 2}}
RUN, JOB = "run_000000000000", "job_000000000000"

# name: (arguments that work, arguments that do not, code of the error, what its text or fix must name)
CALLS: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "search_instruments": ({"query": "btc"}, {"limit": 1000}, "bad_request", "limit"),
    "get_instrument": (SYMBOL, {"symbol": "BTCUDST"}, "not_found", "BTCUSDT"),
    "get_market_snapshot": (SYMBOL, {"symbol": "BTC USDT"}, "bad_request", "search_instruments"),
    "get_candles": ({**SYMBOL, **RANGE}, {**SYMBOL, "interval": "7"}, "bad_request", "'15'"),
    "get_mtf_candles": ({**SYMBOL, "limit": 2}, {**SYMBOL, "intervals": []}, "bad_request", "intervals"),
    "get_derivatives_history": (
        {**SYMBOL, **RANGE, "kind": "funding"},
        {**SYMBOL, **RANGE, "kind": "premium", "category": "inverse"},
        "not_found",
        "BTCUSD",
    ),
    "start_backfill": (
        {**SYMBOL, **RANGE, "interval": "60"},
        {**SYMBOL, "interval": "60", "start": "2024-02-01", "end": "2024-01-01"},
        "bad_request",
        "end",
    ),
    "get_coverage": ({}, {"symbol": "%%"}, "bad_request", "symbol"),
    "import_candles": (
        {"symbol": "MYUSDT", "interval": "60"},
        {"path": "nowhere.csv", **SYMBOL, "interval": "60"},
        "bad_request",
        "nowhere.csv",
    ),
    "export_candles": (
        {**SYMBOL, **RANGE, "interval": "15"},
        {"symbol": "SOLUSDT", **RANGE, "interval": "15"},
        "not_found",
        "get_coverage",
    ),
    "list_strategies": ({"query": "ema"}, {"limitt": 5}, "bad_request", "limit"),
    "get_strategy": ({"name": "ema_cross"}, {"name": "ema_crss"}, "not_found", "ema_cross"),
    "validate_strategy": ({"document": DOCUMENT}, {}, "bad_request", "document"),
    "save_strategy": ({"document": DOCUMENT}, {"document": DOCUMENT | {"name": "ema_cross"}}, "conflict", "name"),
    "list_indicators": ({"query": "rsi"}, {"kind": "oscillator"}, "bad_request", "indicator"),
    "evaluate_expression": (
        {"expression": "rsi(close, 14)", **SYMBOL, **RANGE},
        {"expression": "rsi(clse, 14)", **SYMBOL, **RANGE},
        "bad_expression",
        "close",
    ),
    "run_backtest": (PORTFOLIO, BACKTEST | {"params": {"fst": 10}}, "bad_request", "fast"),
    "list_runs": ({"symbol": "ethusdt"}, {"sort": "luck"}, "bad_request", "sharpe"),
    "get_run": (
        {"equity_points": 5, "blocks": ["months", "sides", "tradingview"]},
        {"run_id": RUN, "blocks": ["weeks"]},
        "bad_request",
        "drawdowns",
    ),
    "get_trades": ({"limit": 3}, {"run_id": "run_1"}, "bad_request", "run_id"),
    "reproduce_run": ({}, {"run_id": RUN}, "not_found", "run_"),
    "show_chart": ({}, {"run_id": RUN, "start": "2024-01-01"}, "bad_request", "end"),
    "compare_with_tradingview": ({}, {"run_id": RUN, "path": "nowhere.csv"}, "bad_request", "nowhere.csv"),
    "start_grid_search": (
        SEARCHED | {"grid": {"fast": [5, 10, 20], "slow": {"from": 30, "to": 120, "step": 30}}},
        SEARCHED | {"grid": {"fst": [5]}},
        "bad_request",
        "fast",
    ),
    "start_bayesian_search": (
        SEARCHED | {"space": {"fast": {"from": 5, "to": 30}, "slow": [50, 60]}, "trials": 20},
        SEARCHED | {"space": {"fast": {"from": 5, "to": 30}}, "sampler": "luck"},
        "bad_request",
        "tpe",
    ),
    "start_walk_forward": (
        SEARCHED | {"search": {"grid": {"fast": [5, 10]}}, "windows": 2, "min_trades": 2},
        SEARCHED | {"search": {"fast": [5, 10]}},
        "bad_request",
        "grid",
    ),
    "wait_for_job": ({"wait_seconds": 20}, {"job_id": JOB}, "not_found", "list_jobs"),
    "get_job_result": ({}, {"job_id": JOB}, "not_found", "list_jobs"),
    "cancel_job": ({}, {"job_id": JOB}, "not_found", "list_jobs"),
    "list_jobs": ({}, {"state": "sleeping"}, "bad_request", "running"),
    "get_verdict": ({"include": ["regimes", "cpcv"]}, {"run_id": RUN, "include": ["luck"]}, "bad_request", "regimes"),
    "run_monte_carlo": (
        {"simulations": 200, "method": "trades_resample"},
        {"run_id": RUN, "simulations": 10**6},
        "bad_request",
        "simulations",
    ),
    "run_stress_test": ({}, {"run_id": RUN}, "not_found", "run_"),
    "check_lookahead": ({"cuts": 2}, {"run_id": RUN, "cuts": 0}, "bad_request", "cuts"),
    "open_holdout": (
        {"reason": "the most robust of three", "confirm": True},
        {"run_id": RUN, "reason": "the most robust of three", "confirm": True},
        "not_found",
        "run_",
    ),
    "list_trials": ({}, {"study": "nowhere"}, "not_found", "studies"),
    "analyze_backtest_results": ({}, {"run_id": RUN}, "not_found", "run_"),
    "compare_strategies": ({}, {"run_ids": [RUN]}, "bad_request", "run_ids"),
    "risk_management_advice": ({"tolerance": 0.1}, {"run_id": RUN, "tolerance": 2}, "bad_request", "tolerance"),
    "technical_indicator_research": ({"indicator": "rsi"}, {"indicator": "rsii"}, "not_found", "rsi"),
    "explain_metric": ({"name": "sharpe"}, {"name": "sharp ratio"}, "not_found", "sharpe"),
    "market_regime_detection": (
        {**SYMBOL, "interval": "D"},
        {"symbol": "BTC USDT"},
        "bad_request",
        "search_instruments",
    ),
    "code_review_strategy": ({"strategy": "ema_cross"}, {"strategy": "ema_crss"}, "not_found", "ema_cross"),
    "generate_test_scenarios": ({"strategy": DOCUMENT}, {"strategy": {"name": "x"}}, "bad_request", "long_entry"),
    "ask_agents": ({"prompt": "Explain the Sharpe ratio"}, {"prompt": "x", "agent": "grok"}, "bad_request", "deepseek"),
    "run_pipeline": (
        {"name": "code-review", "input": {"code": "x = 1"}},
        {"name": "code-review", "input": {"text": "x = 1"}},
        "bad_request",
        "code (required)",
    ),
    "list_agents": ({}, {"verbose": True}, "bad_request", "verbose"),
    "submit_analysis": (
        {"answer": "It is a ratio."},
        {"submission_id": "sub_" + "0" * 16, "answer": "x"},
        "not_found",
        "delegated",
    ),
    "health_check": ({"exchange": True}, {"exchange": "perhaps"}, "bad_request", "exchange"),
    "cache_stats": ({}, {"all": True}, "bad_request", "all"),
    "clear_cache": ({"what": "exports", "confirm": True}, {"what": "exports"}, "bad_request", "confirm"),
}
NEEDS_RUN = (
    "get_run",
    "get_trades",
    "reproduce_run",
    "show_chart",
    "compare_with_tradingview",
    "get_verdict",
    "run_monte_carlo",
    "run_stress_test",
    "check_lookahead",
    "analyze_backtest_results",
    "risk_management_advice",
)
TRADE_LIST = """Trade #,Type,Date/Time,Signal,Price USDT,Position size (qty),Net P&L USDT
1,Entry long,2024-01-02 03:45,L,62000,0.1,10
1,Exit long,2024-01-02 07:15,X,62100,0.1,10
"""
NEEDS_JOB = ("wait_for_job", "get_job_result", "cancel_job")


class Caller:
    """A connected client whose calls run in one event loop of its own."""

    def __init__(self, portal: BlockingPortal, client: Client) -> None:
        self._portal = portal
        self._client = client

    def call(self, tool: str, arguments: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        result = self._portal.call(self._client.call_tool, tool, arguments)
        assert result.structured_content is not None
        text = next(part.text for part in result.content if part.type == "text")
        assert json.loads(text) == result.structured_content, "both channels carry the same facts"
        return bool(result.is_error), result.structured_content


@pytest.fixture(scope="module", params=["stdio", "http"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    environment = os.environ | {"BST_HOME": str(tmp_path_factory.mktemp("home")), "BST_FEED": "simulated"}
    with ExitStack() as opened:
        if request.param == "stdio":
            target: Any = StdioServerParameters(command=sys.executable, args=["-m", "server", "serve"], env=environment)
        else:
            target = opened.enter_context(http_server(environment))
        portal = opened.enter_context(start_blocking_portal())
        connected = opened.enter_context(portal.wrap_async_context_manager(Client(target)))
        yield Caller(portal, connected)


@contextmanager
def http_server(environment: dict[str, str]) -> Generator[str]:
    served = subprocess.Popen(
        [sys.executable, "-m", "server", "serve", "--http", "--port", "0"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert served.stderr is not None
    try:
        yield next(word for line in served.stderr for word in line.split() if word.startswith("http://"))
    finally:
        served.kill()
        served.communicate()


def completed(client: Caller, tool: str, arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Add the handle a tool needs, made by the tool that makes it."""
    if tool == "open_holdout":
        _, run = client.call("run_backtest", SEALED_BACKTEST)
        return {"run_id": run["run_id"], **arguments}
    if tool in NEEDS_RUN:
        _, run = client.call("run_backtest", BACKTEST)
        if tool == "compare_with_tradingview":
            file = folder / "trades.csv"
            file.write_text(TRADE_LIST, encoding="utf-8")
            arguments = {"path": str(file)}
        return {"run_id": run["run_id"], **arguments}
    if tool == "compare_strategies":
        runs = [client.call("run_backtest", BACKTEST | {"strategy": name})[1] for name in ("ema_cross", "sma_cross")]
        return {"run_ids": [run["run_id"] for run in runs]}
    if tool in NEEDS_JOB:
        _, job = client.call("start_backfill", CALLS["start_backfill"][0])
        return {"job_id": job["job_id"], **arguments}
    if tool == "submit_analysis":
        _, asked = client.call("ask_agents", CALLS["ask_agents"][0])
        return {"submission_id": asked["submission_id"], **arguments}
    if tool == "export_candles":
        client.call("run_backtest", BACKTEST)
    if tool == "import_candles":
        file = folder / "candles.csv"
        rows = [f"{1704067200000 + hour * 3_600_000},10,12,9,11,5" for hour in range(48)]
        file.write_text("\n".join(["time,open,high,low,close,volume", *rows]), encoding="utf-8")
        return {"path": str(file), **arguments}
    return arguments


def output_schema(tool: str) -> dict[str, Any]:
    """Return what the tool says its structured content looks like."""
    text = (Path(__file__).parent / "schemas" / f"{tool}.json").read_text(encoding="utf-8")
    return json.loads(text)["outputSchema"]


def test_the_table_knows_every_tool() -> None:
    assert set(CALLS) == {tool.name for tool in all_tools()}


@pytest.mark.parametrize("tool", CALLS)
def test_a_right_call_is_answered(client: Caller, tool: str, tmp_path: Path) -> None:
    failed, result = client.call(tool, completed(client, tool, CALLS[tool][0], tmp_path))
    assert not failed, result
    validate(result, output_schema(tool))


@pytest.mark.parametrize("tool", CALLS)
def test_a_wrong_call_names_what_to_change(client: Caller, tool: str) -> None:
    _, wrong, code, named = CALLS[tool]
    failed, error = client.call(tool, wrong)
    assert failed
    assert error["code"] == code, error
    assert named in error["message"] + error["fix"], error
    assert error["fix"]
    # Clients of the first TypeScript SDK check errors against the schema of results too.
    validate(error, output_schema(tool))
