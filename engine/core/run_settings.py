"""What a person may set for a backtest, in percent and money, with the defaults a Bybit trader would choose."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.core.series import Category

# Bybit's fee table, non-VIP: perpetuals 0.055 % taker and 0.02 % maker, spot 0.1 % both ("Trading Fee Structure").
DEFAULT_FEES_PERCENT: dict[Category, tuple[float, float]] = {
    "linear": (0.055, 0.02),
    "inverse": (0.055, 0.02),
    "spot": (0.1, 0.1),
}

Fee = Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)]


class Size(BaseModel):
    """How much to trade: exactly one of four ways."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    equity_fraction: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = Field(
        None, description="Share of equity at the fill, times leverage"
    )
    quote: Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)] | None = Field(
        None, description="Fixed notional"
    )
    quantity: Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)] | None = Field(
        None, description="Fixed quantity"
    )
    risk_percent: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = Field(
        None, description="Percent of equity lost at the stop"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Size:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"size takes exactly one of {', '.join(type(self).model_fields)}, found {len(given)}")
        return self


class RunSettings(BaseModel):
    """Costs, sizing and execution of a backtest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    capital: float | None = Field(
        None,
        gt=0,
        le=1e12,
        allow_inf_nan=False,
        description="Starting equity, settlement currency; default 10000, on inverse 1",
    )
    taker_fee_percent: Fee | None = Field(None, description="Default: Bybit non-VIP")
    maker_fee_percent: Fee | None = Field(None, description="Default: Bybit non-VIP")
    slippage_percent: float = Field(
        0.01, ge=0, le=10, allow_inf_nan=False, description="Adverse, on market fills and stops"
    )
    size: Size | None = Field(None, description="Exactly one; default: the strategy's own")
    leverage: float = Field(1, ge=1, le=200, allow_inf_nan=False)
    intrabar: Literal["pessimistic", "optimistic", "magnify"] = Field(
        "pessimistic", description="Stop and target in one bar: stop first, target first, or 1-minute candles decide"
    )
    round_to_lot: bool = Field(True, description="Round to lot and tick, respect minimum order")
    funding: bool = Field(True, description="Charge recorded funding")
    allow_short: bool = True

    def capital_in(self, category: Category) -> float:
        """Return the starting equity: quote currency, or coins on inverse contracts."""
        if self.capital is not None:
            return self.capital
        return 1.0 if category == "inverse" else 10_000.0

    def fees_percent(self, category: Category) -> tuple[float, float]:
        """Return (taker, maker) fees in percent of notional."""
        taker, maker = DEFAULT_FEES_PERCENT[category]
        return (
            taker if self.taker_fee_percent is None else self.taker_fee_percent,
            maker if self.maker_fee_percent is None else self.maker_fee_percent,
        )
