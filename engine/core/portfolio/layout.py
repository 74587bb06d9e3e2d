"""Where everything of an account over several symbols lies in the arrays of its compiled loop."""

from __future__ import annotations

from engine.core.simulation import SkipReason

# The only refusal that a symbol alone does not know.
NO_FREE_SLOT = "no_free_slot"
REFUSALS: tuple[str, ...] = (*(reason.name.lower() for reason in SkipReason), NO_FREE_SLOT)

# Floats of one symbol: what it holds of the account, then the rules it is sized and charged by.
(
    PRICE, QUANTITY, ENTRY_FEE, FUNDING, REALISED, SIZE_VALUE, LEVERAGE, FEE_RESERVE, LOT_UP, LOT_DOWN, MIN_QUANTITY,
    MIN_NOTIONAL, MAX_QUANTITY, TAKER_FEE, TARGET_FEE, TIER_LIMIT, SYMBOL_FLOATS,
) = range(17)  # fmt: skip

# Whole numbers of one symbol: rows of the joined columns (ROW is -1 at a step without a bar), then the rules, then counts.
(
    FIRST_ROW, END_ROW, NEXT_ROW, ROW, SIDE_BEFORE, SIZE_MODE, CAPPED, AMBIGUOUS, REFUSED,
) = range(9)  # fmt: skip
SYMBOL_NUMBERS = REFUSED + len(REFUSALS)

# Floats and whole numbers of the account. TOO_LARGE is the symbol whose position left the first tier, and OF_VALUE how
# large it would have been.
WALLET, PEAK, OF_VALUE, ACCOUNT_FLOATS = range(4)
TRADES, RUINED_STEP, MOST_POSITIONS, TOO_LARGE, ACCOUNT_NUMBERS = range(5)

# Columns of the table of trades: the symbol, then what Trades.from_tables takes.
SYMBOL, TRADE_NUMBERS, TRADE_RECORDS = 0, 6, 10
