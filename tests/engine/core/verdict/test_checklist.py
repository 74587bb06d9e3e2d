"""The checklist: each check decides at its height, missing evidence never helps, and caps hold whatever the figures."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from engine.core.verdict import Evidence, OwnFacts, SearchFacts, StabilityFacts, Standings, judge

GOOD = Evidence(
    OwnFacts(
        trades=200, losing_trades=90, bars=20_000, days=833, net_profit=5_000.0, sharpe=2.6, minimum_track_record_days=150.0,
        best_trade_share=0.05, best_regime_share=0.5, best_regime="up calm", alpha=0.4,
    ),
    SearchFacts(
        trials=1_000, compared_trials=900, effective_trials=80.0, expected_max_sharpe=1.6, deflated_sharpe=0.97,
        no_skill_p=0.002, no_edge_p=0.01, pbo=0.05, walk_forward_sharpe=1.9, walk_forward_low=0.8,
        walk_forward_high=3.0, walk_forward_windows=5, walk_forward_efficiency=0.7, walk_forward_source="test",
    ),
    StabilityFacts(
        neighbours=4, neighbour_ratio=0.9, neighbours_above_zero=1.0, net_profit_at_double_costs=2_000.0,
        net_profit_one_bar_later=4_000.0, causal=True, replays=18,
    ),
    Standings(
        sealed=True, openings=0, holdout_sharpe=math.nan, holdout_low=math.nan, holdout_high=math.nan,
        ledger_intact=True, simulated=False,
    ),
)  # fmt: skip

WORSE: tuple[tuple[str, str, Any, str], ...] = (
    ("own", "net_profit", -1.0, "rejected"),
    ("own", "sharpe", -0.1, "rejected"),
    ("own", "trades", 29, "fragile"),
    ("own", "losing_trades", 9, "fragile"),
    ("own", "days", 59, "fragile"),
    ("own", "minimum_track_record_days", 834.0, "fragile"),
    ("own", "best_trade_share", 0.51, "candidate"),
    ("own", "best_regime_share", 0.91, "candidate"),
    ("own", "alpha", 0.0, "fragile"),
    ("search", "no_skill_p", 0.031, "fragile"),
    ("search", "no_edge_p", 0.051, "candidate"),
    ("search", "deflated_sharpe", 0.949, "candidate"),
    ("search", "pbo", 0.21, "candidate"),
    ("search", "walk_forward_low", 0.0, "candidate"),
    ("stability", "neighbour_ratio", 0.49, "fragile"),
    ("stability", "neighbours_above_zero", 0.49, "fragile"),
    ("stability", "net_profit_at_double_costs", 0.0, "fragile"),
    ("stability", "net_profit_one_bar_later", 0.0, "fragile"),
    ("stability", "causal", False, "rejected"),
    ("stability", "causal", None, "fragile"),
    ("standings", "sealed", False, "candidate"),
    ("standings", "spent", "opened before", "candidate"),
    ("standings", "already_seen", "evaluated before", "candidate"),
    ("standings", "ledger_intact", False, "fragile"),
)


def changed(part: str, **values: Any) -> Evidence:
    return replace(GOOD, **{part: replace(getattr(GOOD, part), **values)})


def test_evidence_that_passes_everything_is_robust():
    verdict = judge(GOOD)
    assert verdict.verdict == "robust"
    assert [check.name for check in verdict.checks if check.passed is False] == []


@pytest.mark.parametrize(("part", "name", "value", "expected"), WORSE)
def test_one_failing_figure_caps_the_verdict_at_its_height(part: str, name: str, value: Any, expected: str):
    assert judge(changed(part, **{name: value})).verdict == expected


@pytest.mark.parametrize("part", ["own", "search", "stability"])
def test_a_figure_that_could_not_be_computed_never_helps(part: str):
    undecided = {"bars", "effective_trials", "expected_max_sharpe", "trials", "compared_trials", "neighbours", "replays",
                 "walk_forward_sharpe", "walk_forward_high", "walk_forward_windows", "walk_forward_efficiency"}  # fmt: skip
    for field in fields(getattr(GOOD, part)):
        if "float" in str(field.type) and field.name not in undecided:
            assert judge(changed(part, **{field.name: math.nan})).verdict != "robust", field.name


def test_what_does_not_apply_decides_nothing():
    alone = replace(
        GOOD,
        search=replace(GOOD.search, trials=1, compared_trials=1, pbo=math.nan),
        stability=replace(GOOD.stability, neighbours=0, neighbour_ratio=math.nan, neighbours_above_zero=math.nan),
    )
    verdict = judge(alone)
    assert verdict.verdict == "robust"
    assert {check.name for check in verdict.checks if check.passed is None} == {"pbo", "plateau", "holdout"}


def test_a_holdout_below_the_predicted_band_makes_it_fragile_and_one_above_does_not():
    opened = {"openings": 1, "holdout_low": -0.5, "holdout_high": 4.0}
    assert judge(changed("standings", holdout_sharpe=-0.6, **opened)).verdict == "fragile"
    assert judge(changed("standings", holdout_sharpe=5.0, **opened)).verdict == "robust"


def test_a_holdout_opened_twice_is_told_to_be_spent():
    verdict = judge(changed("standings", openings=2, holdout_sharpe=1.0, holdout_low=0.0, holdout_high=3.0))
    told = next(check for check in verdict.checks if check.name == "holdout")
    assert "opened 2 times" in told.why


def test_every_check_says_its_figure_its_threshold_and_why():
    for check in judge(GOOD).checks:
        assert check.threshold
        assert check.why
        assert check.passed is None or check.value is not None
