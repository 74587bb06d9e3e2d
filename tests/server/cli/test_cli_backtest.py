"""`bst backtest`: the same figures as the tool, a table for people, missing candles fetched first."""

from __future__ import annotations

import json

import pytest

from server.commands.sparkline import ASCII_BLOCKS, BLOCKS, sparkline

RANGE = ("--start", "2024-01-01", "--end", "2024-02-01")
ORDER = ("backtest", "BTCUSDT", "--interval", "15", "--fast-ema", "20", "--slow-ema", "50", *RANGE)


def test_the_figures_are_those_of_the_tool(run, call) -> None:
    result = run(*ORDER, "--json")
    assert result.exit_code == 0
    assert result.stderr == ""
    by_tool = call(
        "run_backtest",
        strategy="ema_cross",
        params={"fast": 20, "slow": 50},
        symbol="BTCUSDT",
        interval="15",
        start="2024-01-01",
        end="2024-02-01",
    )
    assert json.loads(result.stdout) == by_tool


def test_the_table_shows_what_a_trader_asks_for(run) -> None:
    figures = json.loads(run(*ORDER, "--json").stdout)
    shown = run(*ORDER).stdout
    metrics = figures["metrics"]
    assert f"{metrics['final_equity']:,.2f}" in shown
    assert f"{metrics['total_return'] * 100:,.2f} %" in shown
    assert f"{metrics['profit_factor']:,.2f}" in shown
    for label in (
        "Final capital",
        "Return",
        "Trades",
        "Win rate",
        "Profit factor",
        "Sharpe",
        "Max drawdown",
        "Fees paid",
    ):
        assert label in shown
    assert figures["run_id"] in shown
    assert figures["data"]["sha256"][:12] in shown
    assert "simulated" in shown
    assert "fill at the next bar's open" in shown
    assert set(BLOCKS) & set(shown)
    assert "\x1b[" not in shown


def test_stops_replace_those_of_the_strategy_and_zero_removes_them(run) -> None:
    own = json.loads(run(*ORDER, "--json").stdout)
    tight = json.loads(run(*ORDER, "--stop-loss", "0.3", "--json").stdout)
    none = json.loads(run(*ORDER, "--stop-loss", "0", "--take-profit", "0", "--json").stdout)
    assert tight["exits"]["stop_loss"] > own["exits"].get("stop_loss", 0)
    assert none["exits"].keys() <= {"signal", "end_of_data"}


def test_costs_and_capital_reach_the_simulation(run) -> None:
    free = json.loads(run(*ORDER, "--capital", "5000", "--fee", "0", "--slippage", "0", "--json").stdout)
    assert free["metrics"]["initial_capital"] == 5000
    assert free["metrics"]["fees_paid"] == 0


def test_other_strategies_take_their_own_parameters(run) -> None:
    order = ("backtest", "ETHUSDT", "--interval", "60", "--strategy", "rsi_reversal", "--param", "period=10", *RANGE)
    assert json.loads(run(*order, "--json").stdout)["strategy"]["params"]["period"] == 10


def test_candles_that_take_long_are_fetched_by_a_job_first(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.history.INLINE_PAGES", 1)
    result = run(*ORDER, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["data"]["bars"] == 31 * 96
    assert json.loads(run("call", "list_jobs").stdout)["items"][0]["state"] == "done"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["BTCUSDT", "--strategy", "rsi_reversal", "--fast-ema", "5"], 2, "--param NAME=NUMBER"),
        (["BTCUSDT", "--param", "fast"], 2, "NAME=NUMBER"),
        (["BTCUSDT", "--param", "fast=many"], 2, "NAME=NUMBER"),
        (["BTCUSDT", "--strategy", "ema_cros", *RANGE], 1, "ema_cross"),
        (["XXXNOTREAL", *RANGE], 1, "not_found"),
        (["BTCUSDT", "--interval", "7"], 1, "interval is one of"),
        (["BTCUSDT", "--param", "colour=1", *RANGE], 1, "colour"),
    ],
)
def test_mistakes_are_told_with_their_exit_code(run, arguments: list[str], code: int, told: str) -> None:
    result = run("backtest", *arguments)
    assert result.exit_code == code
    assert told in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("values", "encoding", "line"),
    [
        ([], "utf-8", ""),
        ([5.0], "utf-8", "▄"),
        ([1.0, 1.0], "utf-8", "▄▄"),
        ([0.0, 7.0], "utf-8", "▁█"),
        ([0.0, 1, 2, 3, 4, 5, 6, 7], "utf-8", BLOCKS),
        ([0.0, 1, 2, 3, 4, 5, 6, 7], "cp1252", ASCII_BLOCKS),
        ([7.0, 0.0], "no-such-encoding", "#_"),
    ],
)
def test_a_curve_in_one_line(values: list[float], encoding: str, line: str) -> None:
    assert sparkline(values, encoding) == line
