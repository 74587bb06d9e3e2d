"""Everything a verdict looks at, as plain figures: what the strategy did, what was tried beside it, and how it bends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OwnFacts:
    """What the run itself did.

    Attributes
    ----------
    trades, losing_trades, bars, days : int
        Closed trades, those of them that lost, bars, daily returns.
    net_profit : float
        Settlement currency.
    sharpe : float
        Annualised, of daily returns; NaN where undefined.
    minimum_track_record_days : float
        Days needed to tell its Sharpe ratio from zero at 95 %, did it alone exist; infinite where it is not above zero.
    best_trade_share : float
        Profit of the best trade over the net profit; infinite without a profit.
    best_regime_share : float
        Profit made in the regime that earned most over all profit of profitable regimes, 0 to 1; NaN when unknown.
    best_regime : str
        Its name.
    alpha : float
        Mean daily return that its average exposure to the market does not explain, annualised; NaN where undefined.
    """

    trades: int
    losing_trades: int
    bars: int
    days: int
    net_profit: float
    sharpe: float
    minimum_track_record_days: float
    best_trade_share: float
    best_regime_share: float
    best_regime: str
    alpha: float


@dataclass(frozen=True, slots=True)
class SearchFacts:
    """What the study's trials say about the chosen one; see `engine.core.verdict.study`.

    Attributes
    ----------
    trials : int
        Distinct evaluations of the study, whatever their data.
    compared_trials : int
        Of them, those on the same days as the run.
    effective_trials : float
        Independent trials that would reach as high by luck as the compared ones.
    expected_max_sharpe : float
        Annualised Sharpe ratio the best of them reaches on average without any skill.
    deflated_sharpe : float
        Probability that the Sharpe ratio is above that.
    no_skill_p : float
        How often the best of trials that predict nothing and pay their costs does as well as the run; NaN where it cannot
        be computed.
    no_edge_p : float
        The same where every trial earns nothing after costs (Hansen's consistent test).
    pbo : float
        Probability of backtest overfitting; NaN with too few trials.
    walk_forward_sharpe, walk_forward_low, walk_forward_high : float
        Annualised, stitched out-of-sample days, with its 90 % interval; NaN where there are too few days.
    walk_forward_windows : int
    walk_forward_efficiency : float
        Out of sample over in sample; NaN where in-sample is not above zero.
    walk_forward_source : str
        Which refits these are.
    probes : int
        Expressions looked at on the bars of the run: each is one more independent trial, of unknown returns.
    """

    trials: int
    compared_trials: int
    effective_trials: float
    expected_max_sharpe: float
    deflated_sharpe: float
    no_skill_p: float
    no_edge_p: float
    pbo: float
    walk_forward_sharpe: float
    walk_forward_low: float
    walk_forward_high: float
    walk_forward_windows: int
    walk_forward_efficiency: float
    walk_forward_source: str
    probes: int = 0


@dataclass(frozen=True, slots=True)
class StabilityFacts:
    """How the result changes when something about the strategy or the market does.

    Attributes
    ----------
    neighbours : int
        Parameter points one step away that were evaluated; 0 for a strategy without parameters.
    neighbour_ratio : float
        Median Sharpe ratio of the neighbours over the run's own; NaN without neighbours or when its own is not above zero.
    neighbours_above_zero : float
        Share of them with a Sharpe ratio above zero.
    net_profit_at_double_costs, net_profit_one_bar_later : float
        Settlement currency.
    causal : bool or None
        Whether replays on cut and made-up futures left the past unchanged; None when they were not run.
    replays : int
    """

    neighbours: int
    neighbour_ratio: float
    neighbours_above_zero: float
    net_profit_at_double_costs: float
    net_profit_one_bar_later: float
    causal: bool | None
    replays: int


@dataclass(frozen=True, slots=True)
class Standings:
    """Where the research stands: what guards it and what has been given away.

    Attributes
    ----------
    sealed : bool
        Whether the study held back a part of the market from its beginning.
    openings : int
        How often bars of the holdout were opened, whoever did it.
    holdout_sharpe : float
        Annualised, of the opened part; NaN while it is closed.
    holdout_low, holdout_high : float
        The band the in-sample result predicts for it at 95 %.
    ledger_intact : bool
        Whether the chain of trials is whole and as long as the witness remembers.
    simulated : bool
        Whether the market is an artificial one.
    spent : str
        By whom bars of the holdout were opened before this run could be confirmed on them; empty when by nobody.
    already_seen : str
        What had been evaluated on the holdout before it was sealed; empty when nothing.
    """

    sealed: bool
    openings: int
    holdout_sharpe: float
    holdout_low: float
    holdout_high: float
    ledger_intact: bool
    simulated: bool
    spent: str = ""
    already_seen: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it."""

    own: OwnFacts
    search: SearchFacts
    stability: StabilityFacts
    standings: Standings
