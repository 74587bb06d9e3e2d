"""`bst demo`: the whole way through a real client over stdio, and loud when figures disagree."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from server.commands import demo as demo_command
from server.commands.demo import checked

LONG = {
    "side": "long",
    "quantity": 2.0,
    "entry_price": 100.0,
    "exit_price": 110.0,
    "fees": 1.0,
    "funding": 0.5,
    "pnl": 18.5,
}
SHORT = {
    "side": "short",
    "quantity": 1.0,
    "entry_price": 50.0,
    "exit_price": 60.0,
    "fees": 0.5,
    "funding": 0.0,
    "pnl": -10.5,
}
METRICS = {"trades": 2, "net_profit": 8.0, "initial_capital": 1000.0, "final_equity": 1008.0, "fees_paid": 1.5}


def test_the_demo_runs_over_stdio_and_its_figures_agree(run_process) -> None:
    done = run_process("demo", "--json", timeout=600)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["mcp"]["transport"] == "stdio"
    assert document["source"] == "simulated"
    assert document["backfill"]["complete"]
    assert document["run"]["data"]["bars"] == 91 * 96
    assert document["agrees"]
    assert all(document["checks"].values())
    luck = document["luck"]
    assert luck["trials"] == 301, "the backtest is a trial too"
    assert luck["best"]["metrics"]["sharpe"] > 3
    assert luck["verdict"] in {"fragile", "rejected"}
    assert {"no_skill", "deflated_sharpe"} <= set(luck["failed"])
    assert math.isclose(document["net_profit_from_trades"], document["run"]["metrics"]["net_profit"], abs_tol=1e-6)


def test_people_see_that_the_data_is_simulated_and_what_to_do_next(run) -> None:
    result = run("demo", "--keep")
    assert result.exit_code == 0
    assert "SIMULATED" in result.stdout.splitlines()[0]
    assert "mcpServers" in result.stdout
    assert "Final capital" in result.stdout
    folder = Path(result.stdout.splitlines()[-1].removeprefix("The demo's folder: ").removesuffix(" (--home)"))
    assert (folder / "bst.sqlite").is_file()
    demo_command.remove_folder(folder)
    assert not folder.exists()


def test_trades_that_add_up_pass() -> None:
    assert all(checked([LONG, SHORT], METRICS).values())


@pytest.mark.parametrize(
    ("trades", "metrics", "broken"),
    [
        ([LONG], METRICS, "trades counted"),
        ([LONG, {**SHORT, "pnl": -10.4}], METRICS, "each trade's profit follows from its prices, fees and funding"),
        ([LONG, SHORT], {**METRICS, "net_profit": 8.01}, "net profit"),
        ([LONG, SHORT], {**METRICS, "final_equity": 1007.0}, "final equity"),
        ([LONG, SHORT], {**METRICS, "fees_paid": 2.0}, "fees"),
    ],
)
def test_figures_that_disagree_are_found(trades: list[dict], metrics: dict, broken: str) -> None:
    assert not checked(trades, metrics)[broken]


def test_a_disagreement_fails_loudly(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_command, "checked", lambda *_: {"net profit": False})
    result = run("demo")
    assert result.exit_code == 1
    assert "NET PROFIT DISAGREES" in result.stdout
    assert "do not add up" in result.stderr


def test_a_server_that_does_not_start_is_told(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_command, "SERVE", ("-c", "raise SystemExit('no server here')"))
    result = run("demo")
    assert result.exit_code == 1
    assert "ended before it answered" in result.stderr
    assert "no server here" in result.stderr
    assert "Traceback" not in result.stderr
