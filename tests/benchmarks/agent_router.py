"""Figures of the agents' router: faults, dead agents, overhead, cache, import. Run: `python tests/benchmarks/agent_router.py`.

Prints a table; asserts no time. Everything happens on this machine, against the scripted model server on a real port, with
the real client library and a real store.
"""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from agents import llm  # noqa: E402  the checkout must be on the path first
from agents.answers import BacktestReading  # noqa: E402
from agents.client import CompletionRequest  # noqa: E402
from agents.llm import LiteLLMClient  # noqa: E402
from agents.providers import agents_of  # noqa: E402
from agents.questions import AskRequest, RoutedAnswer  # noqa: E402
from agents.router import Router, build_router  # noqa: E402
from agents.scripted import FAULT_KINDS, FaultPlan, ScriptedModel, ServedModel, serve  # noqa: E402
from agents.settings import Limits  # noqa: E402
from engine.store.store import Store  # noqa: E402

surroundings: Any = importlib.import_module("tests.agents.surroundings")
FREE = Limits(call_usd=1e9, day_usd=1e9, call_tokens=10**12, day_tokens=10**15)
# Refused keys and empty accounts block a vendor until a restart, so they get a run of their own.
PASSING_KINDS = tuple(kind for kind in FAULT_KINDS if kind not in {"401", "402", "403"})


def main() -> None:
    """Run everything and print the table; the child process is the one whose stdout is watched."""
    if "--child" in sys.argv:
        asyncio.run(_everything())
        return
    done = subprocess.run([sys.executable, __file__, "--child"], capture_output=True, encoding="utf-8", check=False)
    print(done.stderr)
    print(f"stdout of the whole run: {len(done.stdout)} bytes; exit {done.returncode}")


async def _everything() -> None:
    _say("litellm import, exercised", await _import_stalls())
    with serve(ScriptedModel()) as served, tempfile.TemporaryDirectory() as folder:
        store = await Store.open(f"sqlite:///{(Path(folder) / 'lab.db').as_posix()}")
        try:
            await _overhead(served, store)
            await _faults(served, store, "1,000 questions, 30 % faults", PASSING_KINDS, 1_000)
            await _faults(served, store, "200 questions, account faults too", FAULT_KINDS, 200)
            await _dead(served, store)
        finally:
            await store.close()


async def _import_stalls() -> str:
    started, cpu = time.perf_counter(), time.process_time()
    last, stalls = time.perf_counter(), []
    llm.warm_up()
    ready = asyncio.ensure_future(llm.ready())
    while not ready.done():
        await asyncio.sleep(0.005)
        now = time.perf_counter()
        stalls.append((now - last - 0.005) * 1e3)
        last = now
    stalls.sort()
    p95 = stalls[int(len(stalls) * 0.95)]
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    return f"{wall_s:.1f} s wall, {cpu_s:.1f} s CPU; loop stall p50 {median(stalls):.1f}, p95 {p95:.1f}, longest {stalls[-1]:.0f} ms"


def _router(served: ServedModel, store: Store, **changes: Any) -> Router:
    return build_router(surroundings.settings_for(served, limits=FREE, **changes), store, surroundings.RealClock())


def _question(number: int, deadline_s: float, *, no_cache: bool = False) -> AskRequest:
    brief = {**surroundings.BRIEF, "sharpe": 1 + number / 7}
    return AskRequest(
        f"analyze run {number}",
        task="reason",
        schema=BacktestReading,
        brief=brief,
        deadline_s=deadline_s,
        no_cache=no_cache,
    )


async def _overhead(served: ServedModel, store: Store) -> None:
    served.model.restart()
    settings = surroundings.settings_for(served)
    client = LiteLLMClient(settings, surroundings.RealClock())
    router = _router(served, store)
    bare: list[float] = []
    routed: list[float] = []
    cached: list[float] = []
    agent = agents_of(settings)["deepseek"]
    await router.ask(_question(-1, 60, no_cache=True))
    prompt = served.model.log[0].body["messages"]
    for number in range(100):
        request = CompletionRequest(agent, prompt[0]["content"], prompt[1]["content"] + str(number), {"type": "object"})
        bare.append(await _ms(client.complete(request, time.monotonic() + 60)))
        routed.append(await _ms(router.ask(_question(10_000 + number, 60))))
        cached.append(await _ms(router.ask(_question(10_000 + number, 60))))
    await client.close()
    await router.close()
    _say("bare client p50", f"{median(bare):.1f} ms")
    _say(
        "router p50 (same call, store and checks)",
        f"{median(routed):.1f} ms, overhead {median(routed) - median(bare):.1f} ms",
    )
    _say("cache hit p50", f"{median(cached):.1f} ms")


async def _ms(awaited: Any) -> float:
    started = time.perf_counter()
    await awaited
    return (time.perf_counter() - started) * 1e3


async def _faults(served: ServedModel, store: Store, title: str, kinds: Any, count: int) -> None:
    quiet = await _ask_many(served, store, FaultPlan(), range(20_000, 20_100))
    first = 0 if kinds is PASSING_KINDS else 50_000
    plan = FaultPlan(share=0.3, share_kinds=kinds, share_seconds=0.05, share_retry_after_s=0.1, seed=7)
    answers = await _ask_many(served, store, plan, range(first, first + count))
    rows = [row for answer in answers.values() for row in await store.agent_calls(question_id=answer.question_id)]
    sent = [row for row in rows if row.outcome != "skipped"]
    good = Counter(row.question_id for row in rows if row.outcome == "answered")
    wrong = [
        number for number, answer in answers.items() if answer.status == "answered" and not _is_right(number, answer)
    ]
    added = sorted(
        answer.duration_ms - median(each.duration_ms for each in quiet.values()) for answer in answers.values()
    )
    _say(title, f"{dict(Counter(answer.status for answer in answers.values()))}, wrong {len(wrong)}")
    _say("  good answers paid twice", str(sum(1 for times in good.values() if times > 1)))
    _say("  requests on the wire / rows of attempts", f"{len(served.model.log)} / {len(sent)}")
    _say("  attempts in answers / rows", f"{sum(len(answer.attempts) for answer in answers.values())} / {len(rows)}")
    _say(
        "  added latency",
        f"p50 {added[len(added) // 2]:.0f}, p95 {added[int(len(added) * 0.95)]:.0f}, max {added[-1]:.0f} ms",
    )
    _say("  answered by", str(dict(Counter(answer.agent for answer in answers.values()))))
    _say("  faults met", str(dict(Counter(entry.fault for entry in served.model.log if entry.fault))))


async def _ask_many(served: ServedModel, store: Store, plan: FaultPlan, numbers: range) -> dict[int, RoutedAnswer]:
    served.model.restart()
    served.model.replace_faults(plan)
    router = _router(served, store)
    # As many at a time as the vendor's connections allow, so that waiting for a place is not counted as latency.
    places = asyncio.Semaphore(4)

    async def ask(number: int) -> tuple[int, RoutedAnswer]:
        async with places:
            return number, await router.ask(_question(number, 5))

    answers = dict(await asyncio.gather(*(ask(number) for number in numbers)))
    await router.close()
    return answers


def _is_right(number: int, answer: RoutedAnswer) -> bool:
    figure = f"{1 + number / 7:.4f}".rstrip("0").rstrip(".")
    return (
        isinstance(answer.answer, BacktestReading) and answer.answer.reading == f"The brief gives sharpe as {figure}."
    )


async def _dead(served: ServedModel, store: Store) -> None:
    dead = "http://127.0.0.1:9"
    router = _router(served, store, deepseek_api_base=dead, perplexity_api_base=dead, local_servers=())
    first = await router.ask(_question(90_000, 5))
    others = [await router.ask(_question(90_001 + number, 5)) for number in range(200)]
    await router.close()
    times = sorted(answer.duration_ms for answer in others)
    delegated = sum(answer.status == "delegated" for answer in [first, *others])
    _say("all agents dead", f"{delegated} of {len(others) + 1} delegated")
    _say(
        "  first answer",
        f"{first.duration_ms:.0f} ms; later p50 {median(times):.1f}, p95 {times[int(len(times) * 0.95)]:.1f} ms",
    )


def _say(what: str, figure: str) -> None:
    print(f"{what:44} {figure}", file=sys.stderr)


if __name__ == "__main__":
    main()
