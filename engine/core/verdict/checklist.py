"""The fixed checklist that turns evidence into one of four words; nothing else may.

A check decides at one of three heights. What fails at the first height is `rejected`, at the second at most `fragile`, at the
third at most `candidate`. A check that does not apply (a single trial cannot be overfitted by choice) decides nothing; one
that could not be made counts as failed at its height.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from engine.core.verdict.evidence import Evidence, Standings

Standing = Literal["rejected", "fragile", "candidate", "robust"]
STANDINGS: tuple[Standing, ...] = ("rejected", "fragile", "candidate", "robust")

# Bailey and López de Prado 2014 for the deflated Sharpe ratio; Bailey et al. 2017 for the probability of backtest
# overfitting; Hansen 2005 for the test of superior predictive ability.
DEFLATED_SHARPE = 0.95
MOST_PBO = 0.2
MOST_P = 0.05
# Searches that dig where it looked best first make a level of 5 % come up a little more often (docs/honesty.md).
MOST_NO_SKILL_P = 0.03
# A t-test on fewer trades than this says nothing, whatever their sum.
FEWEST_TRADES = 30
FEWEST_DAYS = 60
# Near targets and far stops win for a long time and lose once; a record without losses does not say how it loses.
FEWEST_LOSSES = 10
NEIGHBOUR_RATIO = 0.5
NEIGHBOURS_ABOVE_ZERO = 0.5
MOST_OF_ONE_TRADE = 0.5
MOST_OF_ONE_REGIME = 0.9


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the checklist.

    Attributes
    ----------
    name : str
    value : float or None
        None where it could not be computed or does not apply.
    threshold : str
        As people read it.
    passed : bool or None
        None where the check does not apply.
    why : str
    caps_at : {"rejected", "fragile", "candidate"}
        The best verdict while it fails.
    """

    name: str
    value: float | None
    threshold: str
    passed: bool | None
    why: str
    caps_at: Standing


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word, its checks, and what else holds it down."""

    verdict: Standing
    checks: tuple[Check, ...]
    caps: tuple[str, ...]


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on one strategy."""
    checks = (
        _in_sample(evidence),
        _look_ahead(evidence),
        _enough_evidence(evidence),
        _no_skill(evidence),
        _beyond_holding(evidence),
        _costs(evidence),
        _lag(evidence),
        _plateau(evidence),
        _data_snooping(evidence),
        _deflated_sharpe(evidence),
        _overfitting(evidence),
        _walk_forward(evidence),
        _one_trade(evidence),
        _regimes(evidence),
        _holdout(evidence),
    )
    bounds = [(check.caps_at, "") for check in checks if check.passed is False] + _caps(evidence)
    lowest = min((STANDINGS.index(standing) for standing, _ in bounds), default=STANDINGS.index("robust"))
    return Verdict(STANDINGS[lowest], checks, tuple(reason for _, reason in bounds if reason))


def _caps(evidence: Evidence) -> list[tuple[Standing, str]]:
    standings = evidence.standings
    caps: list[tuple[Standing, str]] = []
    if not standings.sealed and not standings.spent:
        why = "the opened holdout showed no trade" if standings.openings else "the study seals no holdout"
        caps.append(("candidate", f"{why}, so nothing unseen is left to confirm it"))
    if standings.spent:
        caps.append(("candidate", f"holdout_spent: {standings.spent}, so nothing unseen is left to confirm it"))
    if standings.already_seen:
        caps.append(("candidate", f"the holdout is not unseen: {standings.already_seen}"))
    if not standings.ledger_intact:
        caps.append(("fragile", "the trial ledger was cut or changed, so nobody knows how much was tried"))
    return caps


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _in_sample(evidence: Evidence) -> Check:
    own = evidence.own
    return Check(
        "in_sample", _number(own.net_profit), "> 0", own.net_profit > 0 and own.sharpe > 0,
        "net profit after all costs; a strategy that loses where it was chosen is no find", "rejected",
    )  # fmt: skip


def _look_ahead(evidence: Evidence) -> Check:
    stability = evidence.stability
    why = f"{stability.replays} replays on cut, blanked and made-up futures must leave the past bit-identical"
    if stability.causal is None:
        return Check("look_ahead", None, "identical", False, f"{why}; they could not be run", "fragile")
    return Check("look_ahead", float(not stability.causal), "identical", stability.causal, why, "rejected")


def _enough_evidence(evidence: Evidence) -> Check:
    own = evidence.own
    needed = max(own.minimum_track_record_days, FEWEST_DAYS)
    told = f"{own.minimum_track_record_days:.0f}" if math.isfinite(own.minimum_track_record_days) else "infinitely many"
    return Check(
        "enough_evidence", float(own.trades), f">= {FEWEST_TRADES} trades, {FEWEST_LOSSES} of them lost",
        own.trades >= FEWEST_TRADES and own.losing_trades >= FEWEST_LOSSES and own.days >= needed,
        f"{own.trades} trades on {own.days} days, {own.losing_trades} lost; its Sharpe ratio alone needs {told} days to differ from 0 at 95 % "
        f"(minimum track record length), and none is believed before {FEWEST_DAYS}", "fragile",
    )  # fmt: skip


def _no_skill(evidence: Evidence) -> Check:
    search = evidence.search
    p = search.no_skill_p
    return Check(
        "no_skill", _number(p), f"<= {MOST_NO_SKILL_P}", p <= MOST_NO_SKILL_P,
        f"how often the best of {_counted(evidence)} that predict nothing and pay their fees does as well",
        "fragile",
    )  # fmt: skip


def _data_snooping(evidence: Evidence) -> Check:
    p = evidence.search.no_edge_p
    return Check(
        "data_snooping", _number(p), f"<= {MOST_P}", p <= MOST_P,
        "the same where every trial earns exactly nothing after costs, the hardest case (Hansen's consistent test)",
        "candidate",
    )  # fmt: skip


def _beyond_holding(evidence: Evidence) -> Check:
    alpha = evidence.own.alpha
    return Check(
        "beyond_holding", _number(alpha), "> 0", alpha > 0,
        "annual return that its average exposure to the market does not explain (alpha)", "fragile",
    )  # fmt: skip


def _costs(evidence: Evidence) -> Check:
    value = evidence.stability.net_profit_at_double_costs
    return Check("costs", _number(value), "> 0", value > 0, "net profit at twice the fees and slippage", "fragile")


def _lag(evidence: Evidence) -> Check:
    value = evidence.stability.net_profit_one_bar_later
    return Check("lag", _number(value), "> 0", value > 0, "net profit with every decision one bar later", "fragile")


def _plateau(evidence: Evidence) -> Check:
    stability = evidence.stability
    threshold = f">= {NEIGHBOUR_RATIO}"
    if stability.neighbours == 0:
        return Check("plateau", None, threshold, None, "the strategy has no parameters to move", "fragile")
    ratio = stability.neighbour_ratio
    return Check(
        "plateau", _number(ratio), threshold,
        ratio >= NEIGHBOUR_RATIO and stability.neighbours_above_zero >= NEIGHBOURS_ABOVE_ZERO,
        f"median Sharpe ratio of {stability.neighbours} points one step away over its own; "
        f"{stability.neighbours_above_zero:.0%} of them are above 0, needed are {NEIGHBOURS_ABOVE_ZERO:.0%}", "fragile",
    )  # fmt: skip


def _deflated_sharpe(evidence: Evidence) -> Check:
    search = evidence.search
    value = search.deflated_sharpe
    return Check(
        "deflated_sharpe", _number(value), f">= {DEFLATED_SHARPE}", value >= DEFLATED_SHARPE,
        f"probability that its Sharpe ratio is above {search.expected_max_sharpe:.2f}, what the best of "
        f"{search.effective_trials:.0f} effective trials{_of_them_probes(evidence)} reaches by luck", "candidate",
    )  # fmt: skip


def _overfitting(evidence: Evidence) -> Check:
    value, threshold = evidence.search.pbo, f"<= {MOST_PBO}"
    if evidence.search.compared_trials == 1:
        probes = evidence.search.probes
        why = (
            f"one trial, and of {probes} probes there are no returns"
            if probes
            else "one trial: nothing was chosen among"
        )
        return Check("pbo", None, threshold, None, why, "candidate")
    return Check(
        "pbo", _number(value), threshold, value <= MOST_PBO,
        "share of symmetric splits of the days in which the in-sample best falls below the median out of sample",
        "candidate",
    )  # fmt: skip


def _walk_forward(evidence: Evidence) -> Check:
    search = evidence.search
    low = search.walk_forward_low
    return Check(
        "walk_forward", _number(low), "> 0", low > 0,
        f"lower end of the 90 % interval of the stitched out-of-sample Sharpe ratio {_told(search.walk_forward_sharpe)} "
        f"over {search.walk_forward_windows} windows ({search.walk_forward_source}); efficiency "
        f"{_told(search.walk_forward_efficiency)}", "candidate",
    )  # fmt: skip


def _one_trade(evidence: Evidence) -> Check:
    share = evidence.own.best_trade_share
    return Check(
        "one_trade", _number(share), f"<= {MOST_OF_ONE_TRADE}", share <= MOST_OF_ONE_TRADE,
        "share of the net profit that the best trade made", "candidate",
    )  # fmt: skip


def _regimes(evidence: Evidence) -> Check:
    own = evidence.own
    share = own.best_regime_share
    return Check(
        "regimes", _number(share), f"<= {MOST_OF_ONE_REGIME}", share <= MOST_OF_ONE_REGIME,
        f"share of the profit made in one regime of the market ({own.best_regime or 'none'})", "candidate",
    )  # fmt: skip


def _holdout(evidence: Evidence) -> Check:
    standings = evidence.standings
    threshold = f"{_told(standings.holdout_low)} to {_told(standings.holdout_high)}"
    if math.isnan(standings.holdout_sharpe):
        return Check("holdout", None, "inside the band", None, _unopened(standings), "fragile")
    spent = "" if standings.openings == 1 else f"; spent: opened {standings.openings} times"
    seen = "; not unseen: bars of it had been evaluated before" if standings.already_seen else ""
    return Check(
        "holdout", standings.holdout_sharpe, threshold, standings.holdout_sharpe >= standings.holdout_low,
        f"Sharpe ratio on the bars that were kept back, against the band its past predicts{spent}{seen}", "fragile",
    )  # fmt: skip


def _counted(evidence: Evidence) -> str:
    """Return how many trials and probes something is the best of."""
    probes = evidence.search.probes
    told = f"{evidence.search.compared_trials} trials"
    return f"{told} and {probes} probes (expressions evaluated on these bars)" if probes else told


def _of_them_probes(evidence: Evidence) -> str:
    probes = evidence.search.probes
    return f" ({probes} of them probes: expressions evaluated on these bars)" if probes else ""


def _unopened(standings: Standings) -> str:
    if standings.spent:
        return "spent: opened for another run"
    return "sealed and unopened" if standings.sealed else "there is none"


def _told(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "unknown"
