"""Listings and maintenance tiers in the shape that instruments-info and risk-limit print."""

from __future__ import annotations

from decimal import Decimal

from engine.market.exchange.listings import Listing, units_text

_AUCTION_MS = (("CallAuction", 3_600_000), ("CallAuctionNoCancel", 300_000), ("CrossMatching", 300_000))
_TIER_STEP_VALUE = 2_000_000


def instrument_row(listing: Listing, now_ms: int) -> dict[str, object]:
    """Return the row of one symbol (Bybit v5 docs, market/instrument)."""
    return _spot_row(listing, now_ms) if listing.category == "spot" else _contract_row(listing, now_ms)


def _spot_row(listing: Listing, now_ms: int) -> dict[str, object]:
    most = _largest_order(listing)
    return {
        "symbolId": _symbol_id(listing), "symbol": listing.symbol, "baseCoin": listing.base_coin,
        "quoteCoin": listing.quote_coin, "innovation": "0", "status": listing.status(now_ms), "marginTrading": "utaOnly",
        "stTag": "0",
        "lotSizeFilter": {
            "basePrecision": listing.lot_step, "quotePrecision": "0.0000001", "minOrderQty": listing.lot_step,
            "maxOrderQty": most, "minOrderAmt": listing.min_notional, "maxOrderAmt": "8000000", "maxLimitOrderQty": most,
            "maxMarketOrderQty": most, "postOnlyMaxLimitOrderSize": most,
        },
        "priceFilter": {"tickSize": listing.tick_size},
        "riskParameters": {"priceLimitRatioX": "0.005", "priceLimitRatioY": "0.01"},
        "symbolType": "",
    }  # fmt: skip


def _contract_row(listing: Listing, now_ms: int) -> dict[str, object]:
    most = _largest_order(listing)
    status = listing.status(now_ms)
    lots: dict[str, str] = {
        "maxOrderQty": most, "minOrderQty": listing.lot_step, "qtyStep": listing.lot_step, "postOnlyMaxOrderQty": most,
        "maxMktOrderQty": most, "minNotionalValue": listing.min_notional if listing.category == "linear" else "",
    }  # fmt: skip
    return {
        "symbol": listing.symbol, "symbolId": _symbol_id(listing),
        "contractType": "LinearPerpetual" if listing.category == "linear" else "InversePerpetual", "status": status,
        "baseCoin": listing.base_coin, "quoteCoin": listing.quote_coin, "launchTime": str(listing.launch_ms),
        "deliveryTime": str(listing.delivery_ms or 0), "deliveryFeeRate": "", "priceScale": str(listing.price_decimals),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": listing.max_leverage, "leverageStep": "0.01"},
        "priceFilter": {
            "minPrice": listing.tick_size, "maxPrice": units_text(1_999_999 * listing.tick_units, listing.price_decimals - 1),
            "tickSize": listing.tick_size,
        },
        "lotSizeFilter": lots, "unifiedMarginTrade": True, "fundingInterval": listing.funding_interval_minutes,
        "settleCoin": listing.settle_coin, "copyTrading": "none", "upperFundingRate": "0.00375",
        "lowerFundingRate": "-0.00375", "isPreListing": status == "PreLaunch",
        "preListingInfo": _pre_listing(listing) if status == "PreLaunch" else None,
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"}, "symbolType": "",
    }  # fmt: skip


def _pre_listing(listing: Listing) -> dict[str, object]:
    begin = listing.launch_ms - sum(length for _, length in _AUCTION_MS)
    phases: list[dict[str, str]] = []
    for phase, length in _AUCTION_MS:
        phases.append({"phase": phase, "startTime": str(begin), "endTime": str(begin + length)})
        begin += length
    phases.append({"phase": "ContinuousTrading", "startTime": str(begin), "endTime": ""})
    return {
        "curAuctionPhase": "CallAuction",
        "phases": phases,
        "auctionFeeInfo": {"auctionFeeRate": "0", "takerFeeRate": "0.001", "makerFeeRate": "0.0004"},
    }


def risk_rows(listing: Listing) -> list[dict[str, object]]:
    """Return five tiers; margins are fractions of value, the deduction makes them continuous.

    MMD_k = MMD_(k-1) + limit_(k-1) * (MMR_k - MMR_(k-1)) (Bybit help centre, "Maintenance Margin Calculation").
    """
    leverage = Decimal(listing.max_leverage)
    first = (1 / leverage / 2).quantize(Decimal("0.0001"))
    # Inverse limits are in coin.
    step = Decimal(150 if listing.category == "inverse" else _TIER_STEP_VALUE)
    deduction = Decimal(0)
    rows: list[dict[str, object]] = []
    for tier in range(1, 6):
        maintenance = first * tier
        if tier > 1:
            deduction += step * (tier - 1) * first
        rows.append(
            {"id": tier, "symbol": listing.symbol, "riskLimitValue": str(step * tier),
             "maintenanceMargin": f"{maintenance:f}", "initialMargin": f"{maintenance * 2:f}",
             "isLowestRisk": int(tier == 1), "maxLeverage": f"{leverage / tier:.2f}",
             "mmDeduction": "" if tier == 1 else f"{deduction:f}"}
        )  # fmt: skip
    return rows


def _largest_order(listing: Listing) -> str:
    return str(max(int(listing.minute_volume * 20), 1))


def _symbol_id(listing: Listing) -> int:
    return int.from_bytes(f"{listing.category[0]}{listing.symbol}".encode()) % 1_000_003
