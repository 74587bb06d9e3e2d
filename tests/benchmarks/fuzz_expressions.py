"""Feed expressions to the parser until a million went in: nothing but BadExpression may come out.

Run: python tests/benchmarks/fuzz_expressions.py [count] [seed]
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter

from engine.core.expressions import tree_of
from engine.core.indicators import REGISTRY
from engine.errors import BadExpression

SERIES = ("open", "high", "low", "close", "volume", "hl2", "hour", "n", "funding_rate")
OPERATORS = ("+", "-", "*", "/", "%", "**", "<", "<=", ">", ">=", "==", "!=", " and ", " or ")
RUBBISH = (
    "(", ")", "[", "]", ",", "=", "!", "&", "|", "#", ":", ":=", ".", "..", ";", "\\", "'", '"', "'''", "\x00", "\n", "\t", "\r", "é", "√",
    "😀", "\u202e", "\ud800", "lambda", "if", "else", "for", "in", "is", "await", "yield", "None", "True", "__import__", "f'", "rb'", "{",
    "}", "@", "~", "^", "1j", "0x1f", "1_0", "007", "1e999", "9" * 5_000, "9**9**9", "(" * 500, "[" * 500, "-" * 900, "not " * 400, "a.b",
    "close[" * 30, "]" * 30, '"240"', "tf", "-1", "1.5", "1e-320", "*close", "**close", "x" * 3_000, "\ufeff", "ª", "Ⅷ",
)  # fmt: skip


def number(chance: random.Random, depth: int) -> str:
    """Return a number that mostly parses."""
    if depth <= 0 or chance.random() < 0.25:
        return chance.choice((*SERIES, str(chance.randint(0, 60)), f"{chance.random():.3f}"))
    kind = chance.random()
    if kind < 0.35:
        return f"({number(chance, depth - 1)} {chance.choice(OPERATORS[:6])} {number(chance, depth - 1)})"
    if kind < 0.45:
        return f"{number(chance, depth - 1)}[{chance.randint(-1, 9)}]"
    if kind < 0.5:
        return f'tf("{chance.choice(("60", "240", "D", "9"))}", {number(chance, depth - 1)})'
    if kind < 0.6:
        return f"where({condition(chance, depth - 1)}, {number(chance, depth - 1)}, {number(chance, depth - 1)})"
    function = REGISTRY[chance.choice(list(REGISTRY))]
    return f"{function.name}({', '.join(argument(chance, depth, parameter.kind) for parameter in function.parameters)})"


def argument(chance: random.Random, depth: int, kind: str) -> str:
    """Return an argument, sometimes of the wrong kind."""
    if chance.random() < 0.05:
        kind = chance.choice(("series", "condition", "period"))
    if kind == "condition":
        return condition(chance, depth - 1)
    return str(chance.randint(0, 40)) if kind in ("period", "constant") else number(chance, depth - 1)


def condition(chance: random.Random, depth: int) -> str:
    """Return a condition that mostly parses."""
    if depth > 0 and chance.random() < 0.3:
        return f"({condition(chance, depth - 1)}{chance.choice(OPERATORS[-2:])}not {condition(chance, depth - 1)})"
    return f"({number(chance, depth - 1)} {chance.choice(OPERATORS[6:12])} {number(chance, depth - 1)})"


def broken(chance: random.Random, text: str) -> str:
    """Return the text with a few characters lost, doubled or replaced by rubbish."""
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(text))
        text = text[:place] + chance.choice((*RUBBISH, "", text[:place][-5:])) + text[place + chance.randint(0, 3) :]
    return text


def expression(chance: random.Random) -> str:
    """Return something a person, a model or an enemy might send."""
    kind = chance.random()
    if kind < 0.1:
        return "".join(
            chr(chance.choice((chance.randint(0, 127), chance.randint(0, 0x10FFFF))))
            for _ in range(chance.randint(0, 60))
        )
    if kind < 0.3:
        return "".join(chance.choice((*RUBBISH, *SERIES, *OPERATORS, *REGISTRY)) for _ in range(chance.randint(0, 30)))
    text = condition(chance, chance.randint(1, 4))
    return text if kind < 0.65 else broken(chance, text)


def main() -> None:
    """Print how many parsed, how many were refused, what else happened, and the slowest."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    outcomes: Counter[str] = Counter()
    slowest, slowest_text = 0.0, ""
    began = time.perf_counter()
    for _ in range(count):
        text = expression(chance)
        start = time.perf_counter()
        try:
            tree_of(text, {"n": 14})
            outcomes["parsed"] += 1
        except BadExpression as refused:
            outcomes["refused" if refused.position is not None and refused.fix else "refused without a place"] += 1
        except Exception as escaped:
            outcomes[f"ESCAPED {type(escaped).__name__}"] += 1
            print(f"escaped: {escaped!r} from {text!r}")
        spent = time.perf_counter() - start
        if spent > slowest:
            slowest, slowest_text = spent, text
    print(f"{count:,} expressions in {time.perf_counter() - began:.0f} s: {dict(outcomes)}")
    print(f"slowest {slowest * 1000:.1f} ms: {slowest_text[:200]!r} ({len(slowest_text)} characters)")
    sys.exit(any(name.startswith("ESCAPED") for name in outcomes))


if __name__ == "__main__":
    main()
