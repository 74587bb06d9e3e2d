"""A process that commits pages until it is killed, telling each acknowledged page on its standard output."""

import asyncio
import sys

import numpy as np

from engine.core.candles import Candles
from engine.core.series import Series
from engine.store.store import Store

MINUTE = 60_000
START = 1_704_067_200_000
PAGE = 500


def page_of(number: int) -> Candles:
    """Return the candles of a page: a function of the page's number alone."""
    opens = START + MINUTE * np.arange(number * PAGE, (number + 1) * PAGE, dtype=np.int64)
    base = opens / 1e9
    return Candles(opens, base, base + 1, base - 1, base, base, base)


def tell(word: str) -> None:
    """Say a word at once, so that it is out before a kill."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


async def write(url: str, symbol: str, first: int, last: int) -> None:
    """Commit pages [first, last)."""
    store = await Store.open(url)
    tell("ready")
    sys.stdin.readline()
    series = Series("simulated", "linear", symbol, "trade", "1")
    for number in range(first, last):
        page = page_of(number)
        low, high = int(page.ts[0]), int(page.ts[-1]) + MINUTE
        await store.commit_page(series, page, start_ms=low, end_ms=high, source="simulated", at_ms=high)
        tell(str(number))
    await store.close()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
