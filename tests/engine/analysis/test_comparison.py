import json
import math

import numpy as np
import pytest

from engine.analysis.comparison import METRICS, common_days, comparison_brief, paired_test
from engine.core.run_settings import DEFAULT_FEES_PERCENT
from engine.core.validation.bootstrap import optimal_block_length, stationary_indices

TRADES = {"name": "trades", "long_entry": "hour == 3", "long_exit": "hour == 15"}


def sharpe(values):
    return math.sqrt(365) * float(np.mean(values)) / float(np.std(values, ddof=1))


def noise(days=300, seed=1):
    return np.random.default_rng(seed).normal(0.0005, 0.02, days)


def test_the_paired_test_draws_the_same_days_of_both():
    first, second = noise(), noise(seed=2)
    found = paired_test(first, second, samples=200, seed=5)
    block = max(optimal_block_length(values) for values in (first, second, second - first))
    rows = stationary_indices(len(first), 200, block, np.random.default_rng(5))
    drawn = [sharpe(second[row]) - sharpe(first[row]) for row in rows]
    observed = sharpe(second) - sharpe(first)
    hits = sum(abs(value - observed) >= abs(observed) for value in drawn)
    assert found.sharpe_difference == pytest.approx(observed)
    assert found.sharpe_p == pytest.approx((1 + hits) / 201)
    assert (found.sharpe_low, found.sharpe_high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    assert found.correlation == pytest.approx(float(np.corrcoef(first, second)[0, 1]))


def test_a_series_does_not_differ_from_itself():
    found = paired_test(noise(), noise())
    assert (found.sharpe_difference, found.mean_difference) == (0, 0)
    assert found.sharpe_p == found.mean_p == 1


def test_a_planted_difference_of_highly_correlated_series_is_found():
    first = noise()
    better = first + 0.002 + np.random.default_rng(9).normal(0, 0.002, len(first))
    found = paired_test(first, better)
    assert found.mean_p < 0.01
    assert found.sharpe_low > 0


def test_noise_is_not_called_different_more_often_than_promised():
    found = [paired_test(noise(120, seed), noise(120, 1_000 + seed), samples=200).mean_p for seed in range(60)]
    # 5 % of 60 are 3; 9 or more have a probability below 0.3 % (more is allowed as blocks are estimated).
    assert sum(p <= 0.05 for p in found) <= 9


def test_figures_are_the_stored_ones_and_rows_are_aligned(make_run, computed):
    other = make_run(TRADES)
    brief = comparison_brief([computed.run, other.run])
    for metric, first, second in brief["metrics"]["rows"]:
        assert first == computed.outcome.result["metrics"][metric]
        assert second == other.outcome.result["metrics"][metric]
    assert [row[0] for row in brief["metrics"]["rows"]] == list(METRICS)
    json.dumps(brief, allow_nan=False)


def test_common_days_are_those_of_all_and_figures_are_computed_on_them(make_run, make_candles, computed):
    late = make_run(TRADES, computed.candles.take(slice(1_000, 3_000)))
    days, (first, second) = common_days([computed.run, late.run])
    brief = comparison_brief([computed.run, late.run])
    assert days[0] >= late.run.marks_ms[0]
    assert len(first) == len(second) == len(days) == brief["common_days"]["days"]
    assert brief["on_common_days"]["rows"][0][1] == pytest.approx(float(np.prod(1 + first) - 1), rel=1e-5)
    assert {one["flag"] for one in brief["flags"]} >= {"different_range"}
    assert "caution" in brief["dominated"]


def test_other_costs_are_flagged(make_run):
    brief = comparison_brief([make_run(TRADES).run, make_run(TRADES, slippage_percent=0.2).run])
    flags = {one["flag"]: one for one in brief["flags"]}
    assert "slippage 0.2 %" in flags["different_costs"]["why"]
    # The same trades at higher costs are worse in everything.
    assert brief["dominated"]["by"] == {"B": ["A"]}


def test_defaults_that_are_written_out_are_no_difference(make_run):
    plain = make_run(TRADES)
    taker, maker = DEFAULT_FEES_PERCENT[plain.run.data["category"]]
    spelled = make_run(TRADES, taker_fee_percent=taker, maker_fee_percent=maker, leverage=1)
    flags = {one["flag"] for one in comparison_brief([plain.run, spelled.run])["flags"]}
    assert not {flag for flag in flags if flag.startswith("different_")}


def test_a_ruined_run_leaves_no_days_to_compare(computed, ruined):
    brief = comparison_brief([computed.run, ruined.run])
    assert brief["on_common_days"] is None
    assert "0 common days" in brief["pairs"]["why"]
    assert "ruined" in {one["flag"] for one in brief["flags"]}


def test_a_run_without_trades_has_no_sharpe_to_test(computed, silent):
    brief = comparison_brief([computed.run, silent.run])
    row = dict(zip(brief["pairs"]["columns"], brief["pairs"]["rows"][0], strict=True))
    assert row["sharpe_p"] is None
    assert row["correlation"] is None
    assert row["mean_difference"] is not None
    json.dumps(brief, allow_nan=False)
