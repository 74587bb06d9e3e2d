"""The table of the experiment: shares with exact binomial intervals, ours beside the naive rule's."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
BELIEVED = ("candidate", "robust")


def report(rows: Sequence[Row]) -> str:
    """Return the table as Markdown."""
    noise = [row for row in rows if row["edge"] is None]
    planted = [row for row in rows if row["edge"] is not None]
    lines = [
        "| figure | goal | ours | naive rule (in-sample Sharpe > 1.5) |",
        "|---|---|---|---|",
        f"| noise judged `robust` | at most 1 % | {share(noise, robust)} | |",
        f"| noise judged `candidate` or better | at most 5 % | {share(noise, believed)} | {share(noise, naive)} |",
        f"| planted edge judged `candidate` or better | at least 80 % | {share(planted, believed)} "
        f"| {share(planted, naive)} |",
        f"| planted edge judged `robust` | as many as can be | {share(planted, robust)} | |",
    ]
    groups = sorted({(row["edge"] or "", row["noise"]) for row in rows})
    lines += [
        "",
        "| market | studies | robust | candidate | fragile | rejected | naive finds |",
        "|---|---|---|---|---|---|---|",
    ]
    for edge, kind in groups:
        part = [row for row in rows if (row["edge"] or "") == edge and row["noise"] == kind]
        counts = Counter(row["verdict"] for row in part)
        words = " | ".join(str(counts[word]) for word in ("robust", "candidate", "fragile", "rejected"))
        lines.append(f"| {kind}, {edge or 'no edge'} | {len(part)} | {words} | {sum(row['naive'] for row in part)} |")
    missed = Counter(name for row in planted if not believed(row) for name in row["failed"])
    if missed:
        told = ", ".join(f"{name} {count}" for name, count in missed.most_common())
        lines += ["", f"Checks that failed in the {sum(not believed(row) for row in planted)} missed edges: {told}."]
    seconds = sorted(row["search_seconds"] + row["verdict_seconds"] for row in rows)
    if seconds:
        lines += [
            "",
            f"Median seconds a study, search and verdict, one of several processes: {seconds[len(seconds) // 2]:.1f}.",
        ]
    return "\n".join(lines)


def robust(row: Row) -> bool:
    """Say whether a study ended `robust`."""
    return row["verdict"] == "robust"


def believed(row: Row) -> bool:
    """Say whether a study ended `candidate` or better."""
    return row["verdict"] in BELIEVED


def naive(row: Row) -> bool:
    """Say whether the naive rule reports a find."""
    return bool(row["naive"])


def share(rows: Sequence[Row], condition: Callable[[Row], bool]) -> str:
    """Return a share with its 95 % interval."""
    hits = sum(1 for row in rows if condition(row))
    if not rows:
        return "-"
    low, high = exact_interval(hits, len(rows))
    return f"{hits / len(rows):.1%} ({hits} of {len(rows)}; {low:.1%} to {high:.1%})"


def exact_interval(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact binomial interval (Clopper and Pearson 1934) by bisection on the tail probabilities."""
    tail = (1 - confidence) / 2

    def at_most(share: float, most: int) -> float:
        return sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(most + 1))

    def solve(below: Callable[[float], bool]) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if below(middle) else (low, middle)
        return (low + high) / 2

    lower = 0.0 if hits == 0 else solve(lambda share: 1 - at_most(share, hits - 1) < tail)
    upper = 1.0 if hits == count else solve(lambda share: at_most(share, hits) > tail)
    return lower, upper


if __name__ == "__main__":
    from tests.honesty.run import read_record

    print(report(read_record(Path(sys.argv[1]))))
