"""How many bars an expression needs before its first value, and what it looks at."""

from __future__ import annotations

from engine.core.expressions.limits import MAX_WARMUP
from engine.core.expressions.nodes import Call, Column, HigherFrame, Lag, Node
from engine.core.expressions.resolution import extra_warmup
from engine.core.timeframes import DAY_MS, WEEK_MS, Interval, ceil_open, count_opens, next_open, step_ms
from engine.errors import BadExpression

_LONGEST_MONTH_MS = 31 * DAY_MS


def warmup_bars(node: Node, interval: Interval | None, start_ms: int | None = None) -> int:
    """Return the row of the first value when data starts at row 0.

    Parameters
    ----------
    interval : Interval or None
        Of the bars the expression runs on; needed only where `tf` is used. A higher bar counts from the first one
        that the data holds whole, so the figure for `tf` is an upper bound while the start is not known.
    start_ms : int or None
        Open of the first bar of the data.
    """
    known: dict[str, int] = {}
    for part in node.walk():
        inside = max((known[operand.text] for operand in part.operands), default=0)
        if isinstance(part, Lag):
            inside += part.bars
        elif isinstance(part, Call):
            inside += extra_warmup(part.function, part.constants)
        elif isinstance(part, HigherFrame):
            inside = _frame_warmup(part, interval, start_ms)
        known[part.text] = inside
    if known[node.text] > MAX_WARMUP:
        raise BadExpression(
            f"the expression needs {known[node.text]:,} bars before its first value, at most {MAX_WARMUP:,} are allowed",
            fix="use shorter periods, or a longer interval of the bars themselves",
        )
    return known[node.text]


def check_nesting(higher: Interval, base: Interval) -> None:
    """Refuse a frame that whole base bars do not fill: shorter, or not a multiple."""
    if higher == base:
        return
    whole = step_ms(higher) % step_ms(base) == 0 if higher != "M" else DAY_MS % step_ms(base) == 0
    if base == "M" or step_ms(higher) < step_ms(base) or not whole:
        raise BadExpression(
            f"tf({higher!r}, ...) cannot be built from {base} bars",
            fix="use a higher interval that is a multiple of the bars' own",
        )


def series_used(node: Node) -> frozenset[str]:
    """Return the names of the market series below a node."""
    return frozenset(part.name for part in node.walk() if isinstance(part, Column)) - {"ts"}


def frames_used(node: Node) -> frozenset[Interval]:
    """Return the higher intervals below a node."""
    return frozenset(part.interval for part in node.walk() if isinstance(part, HigherFrame))


def functions_used(node: Node) -> frozenset[str]:
    """Return the native functions below a node."""
    return frozenset(part.function.name for part in node.walk() if isinstance(part, Call))


def _frame_warmup(frame: HigherFrame, interval: Interval | None, start_ms: int | None) -> int:
    first_ms = None if start_ms is None else ceil_open(frame.interval, start_ms)
    inside = warmup_bars(frame.operands[0], frame.interval, first_ms)
    if interval is None or interval == frame.interval:
        return inside
    check_nesting(frame.interval, interval)
    if start_ms is not None and first_ms is not None:
        close_ms = first_ms
        for _ in range(inside + 1):
            close_ms = next_open(frame.interval, close_ms)
        return count_opens(interval, start_ms, close_ms) - 1
    # The data may start just after a higher bar opened: that one is not used, and the next counts as its first.
    return (inside + 2) * _bars_inside(frame.interval, interval) - 2


def _bars_inside(higher: Interval, base: Interval) -> int:
    length = {"M": _LONGEST_MONTH_MS, "W": WEEK_MS}.get(higher) or step_ms(higher)
    return length // step_ms(base)
