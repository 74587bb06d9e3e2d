"""The benchmark: our engine beside peers, in turns; what agrees is said before anything is timed.

`--write` puts the tables and the growth plots into docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import warnings
from pathlib import Path

import jobs as benchmark
import numpy as np
import psutil
from engines import installed_peers
from plot import log_plot

ROOT = Path(__file__).parent.parent.parent


def run_job(job: benchmark.Job, engines: list[str], scale: float, rounds: int) -> list[list[str]]:
    """Time one job on every engine in turns and return the rows of its table."""
    entrants: list[tuple[str, benchmark.Timed]] = []
    for engine in engines:
        entrant, findings = benchmark.timed(job, engine, scale)
        for finding in findings:
            print(f"  {entrant.label}: {finding}", flush=True)
        entrants.append((engine, entrant))
    entrants += [("", limit) for limit in benchmark.limits(job, scale)]
    for _, entrant in entrants:
        entrant.work()
    found: dict[str, list[float]] = {entrant.label: [] for _, entrant in entrants}
    for _ in range(rounds):
        for _, entrant in entrants:
            found[entrant.label].append(benchmark.seconds(entrant.work) / entrant.cells * 1e9)
    ours = statistics.median(found["ours"])
    rows: list[list[str]] = []
    for engine, entrant in entrants:
        figure = statistics.median(found[entrant.label])
        spread = f"{min(found[entrant.label]):.3g} to {max(found[entrant.label]):.3g}"
        memory = f"{peak_megabytes(job.name, engine, scale):.0f}" if engine else ""
        rows.append([entrant.label, entrant.part, f"{figure:.3g}", spread, f"{figure / ours:.2f}", memory])
    return rows


def peak_megabytes(job: str, engine: str, scale: float) -> float:
    """Return the peak memory of a fresh process that runs an engine's part of a job once."""
    arguments = [sys.executable, __file__, "--child", job, engine, str(scale)]
    answer = subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=ROOT)
    return float(answer.stdout.split()[-1])


def child(job: str, engine: str, scale: float) -> None:
    """Run one engine's part of a job without its checks and print the peak memory of this process in MB."""
    from engines import PEERS, Ours

    chosen = benchmark.JOBS[job]
    bars, pairs = benchmark.size_of(chosen, engine)
    candles = benchmark.make_candles(int(bars * scale))
    if job == "W4":
        benchmark.walk_forward(candles, pairs)[0]()
    elif job == "W6":
        benchmark.timed(chosen, engine, scale)[0].work()
    else:
        runner = Ours(candles) if engine == "ours" else PEERS[engine](candles)
        if len(chosen.pairs) == 1:
            runner.single(benchmark.ONE, levels=chosen.levels)
        else:
            runner.grid(pairs, levels=chosen.levels)
    print(peak_bytes() / 1e6)


def peak_bytes() -> int:
    """Return the most memory this process has had; without the kernel's own record, what it has now."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: its figure survives exec, so a small child would report its parent's peak.
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    return getattr(memory, "peak_wset", memory.rss)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def indicator_table(scale: float) -> str:
    """Return ours and TA-Lib side by side."""
    rows = [
        [name, f"{ours:.2f}", "" if peer is None else f"{peer:.2f}", "" if peer is None else f"{ours / peer:.2f}"]
        for name, ours, peer in benchmark.indicators(scale)
    ]
    return table(["indicator", "ours, ms", "TA-Lib, ms", "ours / TA-Lib"], rows)


def write_document(sections: list[str], measured: dict[str, list[tuple[int, float]]]) -> None:
    """Write docs/performance.md and its two plots."""
    folder = ROOT / "docs"
    bars = {name: measured[name] for name in ("one run", "20 combinations")}
    (folder / "performance-bars.svg").write_text(log_plot(bars, "bars", "seconds"), encoding="utf-8")
    counts = {"100,000 bars": measured["100,000 bars"]}
    (folder / "performance-combinations.svg").write_text(log_plot(counts, "combinations", "seconds"), encoding="utf-8")
    rows = [
        [name, f"{size:,}", f"{taken * 1e3:.3g}", f"{taken / size * 1e9:.3g}"]
        for name, points in measured.items()
        for size, taken in points
    ]
    grown = table(["series", "bars or combinations", "ms", "ns a bar or combination"], rows)
    text = "\n\n".join(
        [
            "# Performance", *sections, "## How cost grows",
            "![Seconds by bars](performance-bars.svg)", "![Seconds by combinations](performance-combinations.svg)", grown,
        ]
    )  # fmt: skip
    (folder / "performance.md").write_text(text + "\n", encoding="utf-8")


def preface(rounds: int, scale: float) -> str:
    """Say what was measured, where and with what."""
    versions = ", ".join(f"{name} {version}" for name, version in installed_peers().items()) or "no peer installed"
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    return (
        f"Made by `uv run poe bench --write`: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python "
        f"{platform.python_version()}, {load} at the start; {versions}. Median of {rounds} rounds in turns after a warm-up; "
        f"indicators and signals are inside the clock, loading data is outside."
        + ("" if scale == 1 else f" QUICK RUN: bars scaled by {scale:g}.")
        + "\n\nEMA cross, long and short, decided at the close and filled at the next open, fee 0.055 %, slippage 0.01 %, "
        "2 % of equity a trade (vectorbt: a fixed value); levels: stop 0.5 %, target 1.0 %, trail 0.4 %. Ours and "
        "raptorbt seed averages with a simple mean, vectorbt and backtesting.py with the first close, so each peer's trades "
        "are compared with ours fed with that peer's crosses."
    )


def main() -> None:
    """Run the jobs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", default="W1,W1S,W2,W3,W4,W5,W6")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a fifth of the bars, two rounds")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    if chosen.child:
        child(chosen.child[0], chosen.child[1], float(chosen.child[2]))
        return
    scale, rounds = (0.2, 2) if chosen.quick else (1.0, chosen.rounds)
    np.seterr(all="ignore")
    sections = [preface(rounds, scale)]
    print(sections[0], flush=True)
    for name in chosen.jobs.split(","):
        if name == "W5":
            sections += ["## W5: indicators, 1,000,000 bars", indicator_table(scale)]
        else:
            job = benchmark.JOBS[name]
            print(f"{name}: {job.title}", flush=True)
            engines = ["ours"] if name in benchmark.ALONE else ["ours", *installed_peers()]
            rows = run_job(job, engines, scale, rounds)
            missing = [] if name in benchmark.ALONE else sorted(set(benchmark.PEERS) - set(engines))
            rows += [[peer, "not installed", "", "", "", ""] for peer in missing]
            head = ["engine", "part", "ns a bar and combination", "range", "x ours", "peak MB"]
            sections += [f"## {name}: {job.title}, {job.bars:,} bars", table(head, rows)]
        print("\n".join(sections[-2:]), flush=True)
    if chosen.write:
        write_document(sections, benchmark.growth(scale))


if __name__ == "__main__":
    main()
