"""A process that runs one backfill as a job until it ends or is killed, telling each acknowledged page on standard output."""

import asyncio
import sys

from engine.backfill import Backfill
from engine.core.series import Series
from engine.jobs import BackfillBody, Jobs, backfill_request
from engine.market.clock import SystemClock
from engine.market.limits import RateRules, RequestLimiter
from engine.market.rest import BybitFeed
from engine.store.store import Store


class TellingStore(Store):
    """A store that tells what it has acknowledged."""

    async def commit_page(self, series, candles, *, start_ms, end_ms, **rest):  # type: ignore[no-untyped-def]
        """Commit, then tell."""
        receipt = await super().commit_page(series, candles, start_ms=start_ms, end_ms=end_ms, **rest)
        sys.stdout.write(
            f"acknowledged {start_ms} {start_ms if not len(candles.ts) else int(candles.ts[-1])} {end_ms}\n"
        )
        sys.stdout.flush()
        return receipt


async def fetch(database: str, exchange: str, symbol: str, start_ms: int, end_ms: int, page: int) -> None:
    """Ask for the job and wait until it is over."""
    sys.stdin.readline()
    clock = SystemClock()
    store = await TellingStore.open(database)
    limiter = RequestLimiter(exchange, clock=clock, memory=store, rules=RateRules(rate_per_s=None), owner=store.owner)
    feed = BybitFeed(base_url=exchange, clock=clock, limiter=limiter)
    jobs = Jobs(store, clock, {"backfill": BackfillBody(Backfill(feed, store, clock), store)})
    series = Series("bybit", "linear", symbol, "trade", "1")
    job = await jobs.submit("backfill", backfill_request(series, start_ms, end_ms, page=page))
    while not job.is_over:
        job = await jobs.wait(job.id, 20.0)
    sys.stdout.write(f"over {job.id} {job.state}\n")
    sys.stdout.flush()
    await jobs.close()
    await feed.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(fetch(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6])))
