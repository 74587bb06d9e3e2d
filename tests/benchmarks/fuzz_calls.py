"""Ten thousand calls of all tools with arguments no sane caller sends: no crash, no unforeseen error, no slow answer."""

from __future__ import annotations

import argparse
import collections
import heapq
import importlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
fuzz_client: Any = importlib.import_module("tests.server.fuzz_client")
fuzzing: Any = importlib.import_module("tests.server.fuzzing")


def main() -> int:
    """Fuzz and print what was found; the slowest calls are listed, tools that compute may take their time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    complaints: collections.Counter[str] = collections.Counter()
    durations: list[tuple[float, str]] = []

    with tempfile.TemporaryDirectory() as home, fuzz_client.connected(Path(home)) as client:

        @settings(
            max_examples=options.calls,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
            database=None,
        )
        @given(data=st.data())
        def fuzz(data: st.DataObject) -> None:
            name = data.draw(st.sampled_from(sorted(client.tools)))
            arguments = data.draw(fuzzing.calls(client.tools[name]))
            started = time.perf_counter()
            complaint = client.complaint(name, arguments)
            durations.append((time.perf_counter() - started, f"{name} {str(arguments)[:300]}"))
            if complaint:
                complaints[f"{name} {str(arguments)[:300]}: {complaint}"] += 1

        fuzz()
    for text, times in complaints.most_common(20):
        print(f"{times} x {text}")
    for seconds, call in heapq.nlargest(8, durations):
        print(f"{seconds:6.2f} s {call}")
    slow = sum(seconds > 1 for seconds, _ in durations)
    print(f"{len(durations)} calls, {sum(complaints.values())} unforeseen, {slow} over 1 s")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
