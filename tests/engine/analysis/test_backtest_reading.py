import json

import numpy as np
import pytest

from engine.analysis.backtest_reading import KEY_METRICS, backtest_brief
from engine.analysis.trade_groups import costs, regime_split
from engine.core.execution import ExecutionSettings
from engine.core.metrics import compute_metrics, deepest_drawdowns, gather_facts, period_returns
from engine.core.validation.regimes import GRID_NAMES, label_regimes
from engine.core.validation.sharpe_inference import probabilistic_sharpe

NO_VERDICT = {"verdict": None, "why": "no judge"}


def brief_of(computed):
    return backtest_brief(computed.run, computed.candles, NO_VERDICT)


def flags_of(brief):
    return {one["flag"] for one in brief["flags"]}


def rows_of(table):
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def test_metrics_are_those_the_engine_measures_again(computed):
    settings = ExecutionSettings(capital=10_000.0)
    again = compute_metrics(computed.outcome.simulation, computed.candles, "60", settings).values
    assert brief_of(computed)["metrics"] == {name: again[name] for name in KEY_METRICS}


def test_every_grouping_adds_up_to_the_trades_and_the_net_profit(computed):
    rows = rows_of(brief_of(computed)["clusters"])
    net, count = computed.run.metrics["net_profit"], computed.run.metrics["trades"]
    for by in ("side", "exit", "held", "hour", "weekday"):
        group = [row for row in rows if row["by"] == by]
        assert sum(row["trades"] for row in group) == count, by
        assert sum(row["net_profit"] for row in group) == pytest.approx(net, abs=0.5), by


def test_a_group_holds_the_trades_of_that_hour_and_weekday(computed):
    rows = {(row["by"], row["group"]): row for row in rows_of(brief_of(computed)["clusters"])}
    trades, moments = computed.run.trades, computed.run.entry_ms.astype("datetime64[ms]").tolist()
    mondays = [pnl for pnl, at in zip(trades.pnl.tolist(), moments, strict=True) if at.weekday() == 0]
    morning = [pnl for pnl, at in zip(trades.pnl.tolist(), moments, strict=True) if 6 <= at.hour < 12]
    assert rows["weekday", "Mon"]["trades"] == len(mondays)
    assert rows["weekday", "Mon"]["net_profit"] == pytest.approx(sum(mondays), rel=1e-4)
    assert rows["hour", "06-12"]["net_profit"] == pytest.approx(sum(morning), rel=1e-4)


def test_months_and_drawdowns_are_those_of_the_simulation(computed):
    brief = brief_of(computed)
    facts = gather_facts(computed.outcome.simulation, computed.candles, "60", ExecutionSettings(capital=10_000.0))
    months = {one.label: one.fraction for one in period_returns(facts, "month")}
    assert brief["months"]["count"] == len(months)
    assert brief["months"]["best"][0][1] == pytest.approx(max(months.values()), rel=1e-5)
    assert brief["months"]["worst"][0][1] == pytest.approx(min(months.values()), rel=1e-5)
    assert [row["depth"] for row in rows_of(brief["drawdowns"])] == pytest.approx(
        [fall.depth for fall in deepest_drawdowns(facts, 3)], rel=1e-5
    )
    assert brief["drawdowns"]["rows"][0][0] == pytest.approx(brief["metrics"]["max_drawdown"], rel=1e-5)


@pytest.mark.parametrize("category", ["linear", "inverse"])
def test_slippage_is_what_a_run_of_the_same_quantity_saves_without_it(make_run, make_candles, category):
    document = {"name": "hold", "long_entry": "hour == 3", "short_entry": "hour == 15"}
    candles = make_candles(1_200)
    size = {"quantity": 3.0}
    given = {"size": size, "taker_fee_percent": 0, "maker_fee_percent": 0, "capital": 1_000_000}
    slipped = make_run(document, candles, category=category, slippage_percent=0.05, **given)
    clean = make_run(document, candles, category=category, slippage_percent=0.0, **given)
    saved = clean.run.metrics["net_profit"] - slipped.run.metrics["net_profit"]
    assert len(clean.run.trades) == len(slipped.run.trades) > 20
    assert costs(slipped.run)["slippage"] == pytest.approx(saved, rel=1e-5)
    assert costs(clean.run)["slippage"] == 0


def test_costs_and_net_profit_add_up_to_the_profit_before_costs(computed):
    paid = brief_of(computed)["costs"]
    assert paid["profit_before_costs"] == pytest.approx(paid["net_profit"] + paid["total_costs"], rel=1e-4)
    assert paid["fees"] == pytest.approx(computed.run.metrics["fees_paid"], rel=1e-5)


def test_a_trade_belongs_to_the_regime_that_was_known_when_it_was_decided(computed):
    split = {row["regime_at_entry"]: row for row in rows_of(regime_split(computed.run, computed.candles))}
    found: dict[str, list[float]] = {}
    for signal, pnl in zip(computed.run.trades.signal_bar.tolist(), computed.run.trades.pnl.tolist(), strict=True):
        code = int(label_regimes(computed.candles.close[: signal + 1])[-1])
        found.setdefault("warm-up" if code < 0 else GRID_NAMES[code], []).append(pnl)
    assert {name: len(pnl) for name, pnl in found.items()} == {
        name: row["trades"] for name, row in split.items() if row["trades"]
    }
    for name, pnl in found.items():
        assert split[name]["net_profit"] == pytest.approx(sum(pnl), rel=1e-4)


def test_candles_that_are_not_those_of_the_run_give_no_regimes(computed):
    partly = computed.candles.take(slice(0, 2_000))
    assert "not all to be seen" in regime_split(computed.run, partly)["why"]
    assert "not all to be seen" in regime_split(computed.run, None)["why"]


def test_the_evidence_follows_the_published_formula(computed):
    evidence, returns = brief_of(computed)["evidence"], computed.run.returns
    sharpe = returns.mean() / returns.std(ddof=1)
    centred = (returns - returns.mean()) / returns.std()
    told = probabilistic_sharpe(sharpe, 0.0, len(returns), float((centred**3).mean()), float((centred**4).mean()))
    assert evidence["probability_sharpe_above_0"] == pytest.approx(told, rel=1e-4)
    assert evidence["sharpe_95_low"] < computed.run.metrics["sharpe"] < evidence["sharpe_95_high"]


def test_a_run_without_trades_is_said_to_have_nothing_to_judge(silent):
    brief = brief_of(silent)
    assert flags_of(brief) == {"no_trades"}
    assert brief["clusters"]["rows"] == []
    assert brief["costs"]["share_of_profit_before_costs"] is None
    assert brief["undefined"]["profit_factor"] == "no trade was closed"
    assert "why" in brief["evidence"]


def test_a_run_of_one_trade_is_flagged_as_such(single):
    brief = brief_of(single)
    assert brief["metrics"]["trades"] == 1
    assert "few_trades" in flags_of(brief)
    assert brief["concentration"]["net_without_best"] == pytest.approx(0, abs=1e-9)


def test_a_ruined_run_is_read_without_inventing_ratios(ruined):
    brief = brief_of(ruined)
    assert "ruined" in flags_of(brief)
    assert brief["metrics"]["sharpe"] is None
    assert "sharpe" in brief["undefined"]
    assert brief["evidence"] == {"why": "the equity was lost"}


def test_simulated_candles_are_flagged_first(make_run):
    made = make_run(source="simulated")
    assert "simulated" in flags_of(brief_of(made))


def test_a_result_that_hangs_on_its_best_trade_is_flagged(make_run, make_candles):
    candles = make_candles(2_000)
    jump = np.where(np.arange(2_000) >= 1_000, 1.5, 1.0)
    bent = type(candles)(
        candles.ts, *(column * jump for column in (candles.open, candles.high, candles.low, candles.close)),
        candles.volume, candles.turnover,
    )  # fmt: skip
    brief = brief_of(
        make_run({"name": "daily", "long_entry": "hour == 3", "max_bars": 20}, bent, taker_fee_percent=0.2)
    )
    assert brief["metrics"]["net_profit"] > 0
    assert "one_trade" in flags_of(brief)


def test_a_brief_is_plain_json_without_nan(computed, silent, single, ruined):
    for one in (computed, silent, single, ruined):
        json.dumps(brief_of(one), allow_nan=False)
