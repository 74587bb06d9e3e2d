"""Pictures of runs as PNG bytes: candles with trades, equity and drawdown, monthly returns, parameter surfaces.

Colours are those of Okabe and Ito, which colour-blind people can tell apart. Times are UTC.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.core.candles import Candles, FloatColumn
from engine.core.timeframes import DAY_MS
from engine.core.trades import Trades
from engine.errors import BadRequest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PIXELS, HEIGHT_PIXELS = 1_200, 900
# More candles than this are narrower than what an eye can tell apart at this width.
MOST_CANDLES = 240
MOST_POINTS = 2_000
_DOTS_PER_INCH = 100
_BLUE, _VERMILLION, _GREEN, _GREY, _INK = "#0072B2", "#D55E00", "#009E73", "#8A8A8A", "#222222"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Cells of a picture that can still be read.
_MOST_NUMBERED_CELLS = 200
_MOST_YEARS = 24


@dataclass(frozen=True, slots=True)
class Caption:
    """What a picture says about itself.

    Attributes
    ----------
    title, subtitle : str
        The subtitle names where the data comes from.
    simulated : bool
        Prices are not those of a market: said across the picture.
    """

    title: str
    subtitle: str
    simulated: bool = False


def draw_run(candles: Candles, trades: Trades, equity: FloatColumn, caption: Caption) -> bytes:
    """Draw candles with entries and exits, equity, and drawdown in percent.

    Parameters
    ----------
    candles : Candles
        Merged to at most 240: open of the first, close of the last, highest high and lowest low.
    trades : Trades
        Bars are rows of the candles; prices are the fills.
    equity : ndarray of float64, shape (n,)
        One value a candle.

    Returns
    -------
    bytes
        PNG, 1200 x 900 pixels.
    """
    if len(candles) == 0 or len(equity) != len(candles):
        raise BadRequest(f"{len(equity)} equity values for {len(candles)} candles", fix="give one value a candle")
    figure = _figure()
    price, money, loss = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [3.2, 1.4, 0.9], "hspace": 0.09}
    )
    merged, each = merge_candles(candles, MOST_CANDLES)
    _draw_candles(price, merged)
    _draw_trades(price, candles, trades)
    days = candles.ts / DAY_MS
    rows = spread_rows(equity, MOST_POINTS)
    money.plot(days[rows], equity[rows], color=_BLUE, linewidth=1.3)
    money.axhline(float(equity[0]), color=_GREY, linewidth=0.8, linestyle="--")
    peak = np.maximum.accumulate(equity)
    drawdown = 100.0 * (equity / peak - 1.0)
    loss.fill_between(days[rows], drawdown[rows], 0.0, color=_VERMILLION, alpha=0.45, linewidth=0)
    loss.plot(days[rows], drawdown[rows], color=_VERMILLION, linewidth=0.9)
    for axes, label in ((price, "Price"), (money, "Equity"), (loss, "Drawdown %")):
        axes.set_ylabel(label)
        axes.margins(x=0.01)
    _date_axis(loss)
    figure.align_ylabels()
    figure.subplots_adjust(left=0.075, right=0.985, top=0.865, bottom=0.066)
    note = "" if each == 1 else f" · one candle drawn = {each} bars"
    return _finish(figure, Caption(caption.title, caption.subtitle + note, caption.simulated))


def draw_monthly_returns(
    months: Sequence[tuple[int, int]], returns_percent: Sequence[float], caption: Caption
) -> bytes:
    """Draw a table of monthly returns, one row a year, and the compounded year at its end.

    Parameters
    ----------
    months : sequence of (year, month)
        Month 1 to 12; a month that is not named stays empty.
    returns_percent : sequence of float
        Of the same length.
    """
    if not months or len(months) != len(returns_percent):
        raise BadRequest(f"{len(returns_percent)} returns for {len(months)} months", fix="give one return a month")
    years = sorted({year for year, _ in months})
    if len(years) > _MOST_YEARS:
        raise BadRequest(f"{len(years)} years do not fit a picture", fix=f"give at most {_MOST_YEARS} years")
    table = np.full((len(years), 13), np.nan)
    for (year, month), value in zip(months, returns_percent, strict=True):
        table[years.index(year), month - 1] = value
    growth = np.nanprod(1.0 + table[:, :12] / 100.0, axis=1)
    table[:, 12] = 100.0 * (growth - 1.0)
    figure = _figure()
    axes = figure.subplots()
    bound = float(np.nanpercentile(np.abs(table[:, :12]), 95)) or 1.0
    axes.imshow(_toned(table, bound), aspect="auto")
    size = 13 if len(years) <= 12 else 10
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            weight = "bold" if column == 12 else "normal"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=size, color=_INK, weight=weight)
    axes.set_xticks(range(13), (*_MONTHS, "Year"))
    axes.set_yticks(range(len(years)), [str(year) for year in years])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=12)
    axes.axvline(11.5, color="white", linewidth=6)
    _white_grid(axes, len(years), 13)
    # Few years keep rows of a readable height instead of filling the page.
    bottom = max(0.06, 0.83 - 0.16 * len(years))
    figure.subplots_adjust(left=0.07, right=0.985, top=0.83, bottom=bottom)
    return _finish(figure, caption)


def draw_surface(
    columns: Sequence[float],
    rows: Sequence[float],
    values: FloatColumn,
    caption: Caption,
    *,
    names: tuple[str, str, str],
) -> bytes:
    """Draw a heat map of a metric over two parameters; the best cell is framed, cells without a value are hatched.

    Parameters
    ----------
    columns, rows : sequence of float
        Values of the two parameters, ascending.
    values : ndarray of float64, shape (len(rows), len(columns))
        NaN where there is none.
    names : (str, str, str)
        Of the column parameter, the row parameter and the metric.
    """
    if values.shape != (len(rows), len(columns)) or not np.isfinite(values).any():
        raise BadRequest(
            f"a surface of {values.shape} for {len(rows)} rows and {len(columns)} columns",
            fix="give one value for every pair, at least one of them finite",
        )
    figure = _figure()
    axes = figure.subplots()
    axes.set_facecolor("#EEEEEE")
    axes.patch.set_hatch("///")
    axes.patch.set_edgecolor("#C8C8C8")
    image = axes.imshow(np.ma.masked_invalid(values), origin="lower", aspect="auto", cmap="viridis")
    _number_axis(axes.set_xticks, columns, 16)
    _number_axis(axes.set_yticks, rows, 20)
    if values.size <= _MOST_NUMBERED_CELLS:
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        digits = ".2f" if 0.1 <= max(abs(low), abs(high)) < 1_000 else ".3g"
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = (value - low) < 0.55 * (high - low)
                axes.text(
                    column,
                    row,
                    f"{value:{digits}}",
                    ha="center",
                    va="center",
                    fontsize=10,
                    color="white" if dark else _INK,
                )
    best = np.unravel_index(int(np.nanargmax(values)), values.shape)
    frame: Any = _rectangle((float(best[1]) - 0.5, float(best[0]) - 0.5))
    axes.add_patch(frame)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    bar = figure.colorbar(image, ax=axes, pad=0.02, fraction=0.045)
    bar.set_label(names[2])
    figure.subplots_adjust(left=0.08, right=0.96, top=0.865, bottom=0.075)
    return _finish(figure, caption)


def merge_candles(candles: Candles, most: int) -> tuple[Candles, int]:
    """Return at most `most` candles, each made of the same number of bars (the last may have fewer), and that number."""
    each = -(-len(candles) // most)
    if each <= 1:
        return candles, 1
    starts = np.arange(0, len(candles), each)
    ends = np.append(starts[1:], len(candles)) - 1
    merged = Candles(
        candles.ts[starts],
        candles.open[starts],
        np.maximum.reduceat(candles.high, starts),
        np.minimum.reduceat(candles.low, starts),
        candles.close[ends],
        np.add.reduceat(candles.volume, starts),
        np.add.reduceat(candles.turnover, starts),
    )
    return merged, int(each)


def spread_rows(values: FloatColumn, most: int) -> Any:
    """Return rows, ascending, that keep the first, the last, and the lowest and highest of every stretch."""
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), most // 2 + 1).astype(np.intp)
    kept = [0, len(values) - 1]
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = values[low:high]
        kept += [low + int(part.argmin()), low + int(part.argmax())]
    return np.unique(np.array(kept))


def _figure() -> Figure:
    # matplotlib takes a second to import and most calls draw nothing; pyplot would keep every figure alive.
    from matplotlib.figure import Figure

    return Figure(
        figsize=(WIDTH_PIXELS / _DOTS_PER_INCH, HEIGHT_PIXELS / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH, facecolor="white"
    )


def _finish(figure: Figure, caption: Caption) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    for axes in figure.axes:
        axes.xaxis.label.set_fontsize(12)
        axes.yaxis.label.set_fontsize(12)
        for name in ("top", "right"):
            axes.spines[name].set_visible(False)
    figure.text(0.02, 0.963, _shortened(caption.title, 88), fontsize=17, weight="bold", color=_INK, va="center")
    figure.text(0.02, 0.922, _shortened(caption.subtitle, 150), fontsize=11.5, color="#555555", va="center")
    if caption.simulated:
        figure.text(
            0.5, 0.5, "SIMULATED", fontsize=110, color=_INK, alpha=0.07, rotation=28, ha="center", va="center", weight="bold"
        )  # fmt: skip
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    target = io.BytesIO()
    # A palette of 256 colours is a third of the bytes, and no eye sees the difference in a chart.
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(target, "PNG", optimize=True)
    return target.getvalue()


def _draw_candles(axes: Axes, candles: Candles) -> None:
    from matplotlib.collections import LineCollection, PolyCollection

    days = candles.ts / DAY_MS
    width = 0.36 * float(np.median(np.diff(days))) if len(days) > 1 else 0.3
    rises = candles.close >= candles.open
    for rows, colour in ((rises, _BLUE), (~rises, _VERMILLION)):
        at, low, high = days[rows], candles.low[rows], candles.high[rows]
        bottom = np.minimum(candles.open, candles.close)[rows]
        top = np.maximum(candles.open, candles.close)[rows]
        wicks = np.stack((np.column_stack((at, low)), np.column_stack((at, high))), axis=1)
        corners = [(at - width, bottom), (at + width, bottom), (at + width, top), (at - width, top)]
        bodies = np.stack([np.column_stack(corner) for corner in corners], axis=1)
        axes.add_collection(LineCollection(list(wicks), colors=colour, linewidths=0.8))
        axes.add_collection(
            PolyCollection(list(bodies), facecolors=colour, edgecolors=colour, linewidths=0.6, alpha=0.75)
        )
    axes.autoscale_view()
    axes.grid(visible=True, color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)


def _draw_trades(axes: Axes, candles: Candles, trades: Trades) -> None:
    days = candles.ts / DAY_MS
    count = len(trades)
    area = 85.0 if count <= 40 else 42.0 if count <= 150 else 16.0
    kinds = (("long entry", "^", _GREEN, trades.side > 0), ("short entry", "v", "#CC79A7", trades.side < 0))
    for label, marker, colour, rows in kinds:
        if rows.any():
            axes.scatter(
                days[trades.entry_bar[rows]], trades.entry_price[rows], s=area, marker=marker, color=colour,
                edgecolors=_INK, linewidths=0.6, zorder=4, label=f"{label} ({int(rows.sum())})",
            )  # fmt: skip
    if count:
        axes.scatter(
            days[trades.exit_bar], trades.exit_price, s=0.6 * area, marker="x", color=_INK, linewidths=1.1, zorder=5,
            label=f"exit ({count})",
        )  # fmt: skip
        # Above the axes, where it can hide nothing.
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=10.5, borderaxespad=0.1
        )


def _date_axis(axes: Axes) -> None:
    from datetime import UTC

    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC, minticks=5, maxticks=11)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))
    for other in axes.figure.axes:
        other.grid(visible=True, color="#E6E6E6", linewidth=0.7)
        other.set_axisbelow(True)
        other.tick_params(labelsize=10.5)
    axes.figure.text(0.02, 0.014, "Times in UTC", fontsize=10.5, color="#555555")


def _toned(table: FloatColumn, bound: float) -> FloatColumn:
    """Return colours from vermillion over white to blue (shape (r, c, 3), 0 to 1); light grey where there is no value."""
    tone = np.clip(np.nan_to_num(table) / bound, -1.0, 1.0)[..., None] * 0.75
    blue, red = np.array([0.35, 0.65, 0.88]), np.array([0.93, 0.55, 0.30])
    colours = np.where(tone >= 0, 1 - tone * (1 - blue), 1 + tone * (1 - red))
    colours[~np.isfinite(table)] = 0.955
    return colours


def _white_grid(axes: Axes, rows: int, columns: int) -> None:
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _number_axis(set_ticks: Any, values: Sequence[float], most: int) -> None:
    step = -(-len(values) // most)
    places = list(range(0, len(values), step))
    set_ticks(places, [f"{values[place]:g}" for place in places])


def _rectangle(corner: tuple[float, float]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 1.0, 1.0, fill=False, edgecolor=_VERMILLION, linewidth=3.0)


def _shortened(text: str, most: int) -> str:
    # A dollar sign would start a formula.
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return text.replace("$", r"\$")
