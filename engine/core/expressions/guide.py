"""The language said in sentences, for people and models."""

from __future__ import annotations

from engine.core.expressions.limits import MAX_CHARACTERS, MAX_EXPONENT, MAX_LAG

GUIDE: dict[str, str] = {
    "numbers": "20, 0.5, 1e-3",
    "arithmetic": f"+ - * / % **; an exponent is a constant of at most {MAX_EXPONENT:g}; dividing by zero gives no value (NaN)",
    "comparisons": "< <= > >= == !=, also chained: 30 < rsi(close, 14) < 70; a comparison with NaN is false",
    "logic": "and, or, not; between conditions only",
    "history": f"close[1] is the bar before, ema(close, 20)[3] three bars ago; a constant from 0 to {MAX_LAG}",
    "higher timeframe": 'tf("240", ema(close, 50)) is the value at the last closed 4-hour bar (UTC); it changes only when one closes, '
    "so a crossing inside tf stays true for a whole higher bar",
    "functions": "ema(close, 20) or ema(close, period=20); periods are constants or parameters, never series",
    "names": "parameters and definitions of the strategy, and the series of the market",
    "size": f"at most {MAX_CHARACTERS} characters an expression; longer ones go into define",
}
