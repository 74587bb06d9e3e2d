"""How large an expression may be; what keeps every parse, resolution and evaluation bounded."""

from __future__ import annotations

MAX_CHARACTERS = 2_000
MAX_TOKENS = 600
# Brackets inside brackets, and operators in a row before a value.
MAX_BRACKETS = 40
MAX_PREFIXES = 8
# Levels of the tree as written, and once definitions and composite indicators are written out.
MAX_DEPTH = 64
MAX_RESOLVED_DEPTH = 128
MAX_RESOLVED_NODES = 5_000
# Bars of history one subscript may reach back, and all subscripts, periods and frames together.
MAX_LAG = 5_000
MAX_WARMUP = 1_000_000
MAX_EXPONENT = 16.0
