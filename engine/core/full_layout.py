"""Where everything of a run with every rule lies in its two flat arrays, and in the tables it fills."""

from __future__ import annotations

from engine.core import kernel
from engine.core.signals import MOST_PARTIAL_TARGETS
from engine.core.simulation import SkipReason
from engine.core.trades import ExitReason

PESSIMISTIC, OPTIMISTIC, MAGNIFY = 0, 1, 2
MARKET_ORDER, LIMIT_ORDER, STOP_ORDER = 0, 1, 2
# A bit of the decisions beside those of the fast loop.
OUTSIDE_SESSION = 16

# A candle in the array of floats, counted from its first place: prices, then what of it may have come after the entry
# and what of it certainly did. Marks are NaN where they are not known.
(
    OPEN, HIGH, LOW, CLOSE, MARK_OPEN, MARK_HIGH, MARK_LOW, MARK_CLOSE, AGAINST, TOWARD, MARK, MUST_AGAINST,
    MUST_TOWARD, MUST_MARK, CANDLE_WIDTH,
) = range(15)  # fmt: skip
BAR_CANDLE, MINUTE_CANDLE = 0, CANDLE_WIDTH

# Floats: the account and its position (NaN levels: none stands), then distances of the signal, then the rules.
(
    WALLET, SIDE, ENTRY, QUANTITY, ENTERED, BEST, WORST, STOP, INITIAL_STOP, TRAIL_GAP, LIQUIDATION_PRICE, BANKRUPTCY,
    ENTRY_FEES, FUNDING, ORDER_PRICE, PREVIOUS_CLOSE, SIZE, STOP_DISTANCE, TARGET_DISTANCE, TRAIL_DISTANCE,
    ORDER_DISTANCE, TAKER_FEE, TARGET_FEE, FEE_RESERVE, SLIPPAGE, SIZE_VALUE, LEVERAGE, LOT_UP, LOT_DOWN, TICK_UP,
    TICK_DOWN, MIN_QUANTITY, MIN_NOTIONAL, MAX_QUANTITY, STOP_FRACTION, TARGET_FRACTION, TRAIL_FRACTION,
    TRAIL_ACTIVATION, BREAKEVEN, ORDER_FRACTION, PART_LEVEL,
) = range(2 * CANDLE_WIDTH, 2 * CANDLE_WIDTH + 41)  # fmt: skip
# The level of the last target stands behind those of the partial ones.
PART_DISTANCE = PART_LEVEL + MOST_PARTIAL_TARGETS + 1
PART_FRACTION = PART_DISTANCE + MOST_PARTIAL_TARGETS
PART_SHARE = PART_FRACTION + MOST_PARTIAL_TARGETS
# Margin tiers, as many as there are, close the array of floats.
TIER = PART_SHARE + MOST_PARTIAL_TARGETS
TIER_LIMIT, TIER_MAINTENANCE, TIER_DEDUCTION, TIER_LEVERAGE, TIER_WIDTH = range(5)

# Whole numbers: the account, the rules, the places of the distance columns, the counters of the fast loop, one more.
(
    BAR, ENTRY_BAR, SIGNAL_BAR, STOP_REASON, NEXT_TARGET, ENTRIES, POSITIONS, TRADES, FILLS, ORDER_SIDE, ORDER_SIGNAL,
    ORDER_LAST, IN_SESSION, SIZE_MODE, MAX_BARS, ALLOW_LONG, ALLOW_SHORT, INVERSE, INTRABAR, HAS_OWN_MARKS, ORDER_KIND,
    ORDER_BARS, MAX_ENTRIES, FLAT_OUTSIDE, MOVES_STOP, PARTS, TIERS, PART_CLOSES_ALL,
) = range(28)  # fmt: skip
DISTANCE_PLACE = PART_CLOSES_ALL + MOST_PARTIAL_TARGETS
COUNTER = DISTANCE_PLACE + 4 + MOST_PARTIAL_TARGETS
DECIDED = COUNTER + kernel.COUNTERS
WHOLE_NUMBERS = DECIDED + 1

AMBIGUOUS, EXPOSED = COUNTER + kernel.AMBIGUOUS, COUNTER + kernel.EXPOSED
RUINED_BAR, CAPPED = COUNTER + kernel.RUINED_BAR, COUNTER + kernel.CAPPED
SKIP = COUNTER + kernel.SKIPS
SKIP_CONFLICT, SKIP_DIRECTION = SKIP + int(SkipReason.CONFLICTING_SIGNALS), SKIP + int(SkipReason.DIRECTION_NOT_ALLOWED)
SKIP_RUINED, SKIP_RISK_LIMIT = SKIP + int(SkipReason.RUINED), SKIP + int(SkipReason.ABOVE_RISK_LIMIT)
SKIP_SESSION, SKIP_ORDER = SKIP + int(SkipReason.OUTSIDE_SESSION), SKIP + int(SkipReason.ORDER_NOT_FILLED)

# Compiled code wants plain integers, not enumerations.
SIGNAL_EXIT, STOP_LOSS, TAKE_PROFIT = int(ExitReason.SIGNAL), int(ExitReason.STOP_LOSS), int(ExitReason.TAKE_PROFIT)
TRAILING_STOP, LIQUIDATION = int(ExitReason.TRAILING_STOP), int(ExitReason.LIQUIDATION)
MAX_BARS_EXIT, END_OF_DATA = int(ExitReason.MAX_BARS), int(ExitReason.END_OF_DATA)
SESSION_END = int(ExitReason.SESSION_END)

# Columns of the tables: whole numbers first, then the records, as Trades.from_tables and Entries.from_tables take them.
TRADE_NUMBERS, TRADE_WIDTH = 6, 16
FILL_NUMBERS, FILL_WIDTH = 4, 7
