"""From what Bybit sends to our own types; here its units are settled and its gaps are filled by rule."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

from engine.core.markets import FundingRate, Instrument, LongShortRatio, OpenInterest, OrderBook, RiskTier, Ticker
from engine.core.series import Category
from engine.errors import BadPayload
from engine.market.fields import Level
from engine.market.wire import (
    BookResult,
    ContractInstrument,
    FundingSample,
    InterestSample,
    RatioSample,
    SpotInstrument,
    WireRiskTier,
    WireTicker,
)

# Printed leverages are rounded to two decimals (57.14 for 1/0.0175), so the product is near 1, not 1.
_LEVERAGE_TOLERANCE = Decimal("0.05")


def instrument(category: Category, row: ContractInstrument | SpotInstrument) -> Instrument:
    """Return the trading rules of one symbol."""
    return _spot(row) if isinstance(row, SpotInstrument) else _contract(category, row)


def _contract(category: Category, row: ContractInstrument) -> Instrument:
    lot = row.lot_size_filter
    return Instrument(
        category=category,
        symbol=row.symbol,
        base_coin=row.base_coin,
        quote_coin=row.quote_coin,
        settle_coin=row.settle_coin,
        status=row.status,
        contract_type=row.contract_type,
        launch_ms=row.launch_time,
        delivery_ms=row.delivery_time,
        tick_size=row.price_filter.tick_size,
        lot_step=lot.qty_step,
        min_quantity=lot.min_order_qty,
        max_market_quantity=lot.max_mkt_order_qty,
        min_notional=lot.min_notional_value,
        max_leverage=row.leverage_filter.max_leverage,
        funding_interval_minutes=row.funding_interval or None,
    )


def _spot(row: SpotInstrument) -> Instrument:
    lot = row.lot_size_filter
    return Instrument(
        category="spot",
        symbol=row.symbol,
        base_coin=row.base_coin,
        quote_coin=row.quote_coin,
        settle_coin=row.quote_coin,
        status=row.status,
        contract_type="Spot",
        launch_ms=None,
        delivery_ms=None,
        tick_size=row.price_filter.tick_size,
        lot_step=lot.base_precision,
        min_quantity=lot.base_precision if lot.min_order_qty is None else lot.min_order_qty,
        max_market_quantity=lot.max_market_order_qty,
        min_notional=lot.min_order_amt,
        max_leverage=None,
        funding_interval_minutes=None,
    )


def ticker(category: Category, row: WireTicker) -> Ticker:
    """Return the latest figures of one symbol."""
    if row.last_price is None or (category != "spot" and (row.mark_price is None or row.index_price is None)):
        raise BadPayload(
            f"the ticker of {row.symbol!r} lacks its last, mark or index price", fix="try again, or use candles"
        )
    return Ticker(
        symbol=row.symbol,
        last_price=float(row.last_price),
        mark_price=_float(row.mark_price),
        index_price=_float(row.index_price),
        change_24h=_float(row.price24h_change),
        high_24h=_float(row.high_price24h),
        low_24h=_float(row.low_price24h),
        volume_24h=_float(row.volume24h),
        turnover_24h=_float(row.turnover24h),
        open_interest=_float(row.open_interest),
        funding_rate=_float(row.funding_rate),
        next_funding_ms=row.next_funding_time,
        bid=_float(row.bid1_price),
        ask=_float(row.ask1_price),
    )


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def order_book(result: BookResult, depth: int) -> OrderBook:
    """Return the best `depth` levels a side; a book that is out of order or crossed is not trusted."""
    bids, asks = _levels(result.bids), _levels(result.asks)
    ordered = all(a[0] > b[0] for a, b in pairwise(bids)) and all(a[0] < b[0] for a, b in pairwise(asks))
    if not ordered or (bids and asks and bids[0][0] >= asks[0][0]):
        raise BadPayload(f"the order book of {result.symbol!r} is out of order or crossed", fix="try again")
    return OrderBook(result.symbol, bids[:depth], asks[:depth], result.ts)


def _levels(levels: Sequence[Level]) -> tuple[tuple[float, float], ...]:
    return tuple((float(price), float(size)) for price, size in levels)


def funding_rate(row: FundingSample) -> FundingRate:
    """Return one settlement."""
    return FundingRate(row.at_ms, float(row.funding_rate))


def open_interest(row: InterestSample) -> OpenInterest:
    """Return one sample.

    `openInterest` is taken, never `singleOpenInterest`: only the former exists in answers from before 2026-06-11 and
    in tickers, and mixing the two would halve a series midway.
    """
    return OpenInterest(row.at_ms, float(row.open_interest))


def long_short_ratio(row: RatioSample) -> LongShortRatio:
    """Return one sample."""
    return LongShortRatio(row.at_ms, float(row.buy_ratio), float(row.sell_ratio))


def risk_tiers(rows: Sequence[WireRiskTier]) -> list[RiskTier]:
    """Return the tiers of one symbol, lowest first, margins as fractions.

    Notes
    -----
    Bybit prints margins as fractions on linear and as percent on inverse contracts; at the maximum leverage the
    initial margin is 1/leverage, so `initialMargin * maxLeverage` is near 1 or near 100 and tells which
    (docs/v5/market/risk-limit). A deduction that is not printed follows from the tiers below (Bybit help centre,
    Maintenance Margin): ``MMD_1 = 0, MMD_k = MMD_(k-1) + limit_(k-1) * (MMR_k - MMR_(k-1))``.
    """
    tiers: list[RiskTier] = []
    ordered = sorted(rows, key=lambda row: row.risk_limit_value)
    scales = {_margin_scale(row) for row in ordered}
    if len(scales) > 1:
        raise BadPayload("the risk tiers mix fractions and percent", fix="try again; no margin figure was kept")
    for row in ordered:
        rate = row.maintenance_margin / _margin_scale(row)
        deduction = Decimal(0)
        if tiers:
            below = tiers[-1]
            deduction = below.deduction + below.limit_value * (rate - below.maintenance_margin)
        tiers.append(
            RiskTier(
                tier=row.id,
                limit_value=row.risk_limit_value,
                maintenance_margin=rate,
                initial_margin=row.initial_margin / _margin_scale(row),
                max_leverage=row.max_leverage,
                deduction=deduction if row.mm_deduction is None else row.mm_deduction,
            )
        )
    return tiers


def _margin_scale(row: WireRiskTier) -> int:
    product = row.initial_margin * row.max_leverage
    for scale in (1, 100):
        if abs(product / scale - 1) <= _LEVERAGE_TOLERANCE:
            return scale
    raise BadPayload(
        f"risk tier {row.id} of {row.symbol!r}: initial margin {row.initial_margin} at leverage {row.max_leverage} "
        "is neither a fraction nor percent",
        fix="try again; no margin figure was kept",
    )
