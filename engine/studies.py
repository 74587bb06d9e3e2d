"""Studies: which unit of research an evaluation belongs to, what it may see, and what is written down about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.core.holdout import Withheld, holdout_start_ms
from engine.core.series import Category, FeedName
from engine.core.times import iso_utc
from engine.errors import BadRequest, Conflict
from engine.instruments import Instruments
from engine.ports import Clock, Feed
from engine.store import Store
from engine.store.study_store import StudyRecord as Study

Market = tuple[FeedName, Category, Sequence[str]]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+-]{0,62}[A-Za-z0-9]|[A-Za-z0-9]")
# A colon is in no name that a caller may choose.
_SCRATCH = "scratch:"


class Studies:
    """Finds and creates studies."""

    def __init__(self, store: Store, instruments: Instruments, feed: Feed, clock: Clock) -> None:
        self._store = store
        self._instruments = instruments
        self._feed = feed
        self._clock = clock

    async def resolve(
        self,
        name: str | None,
        sealed: bool | None,
        feed: FeedName,
        category: Category,
        symbols: Sequence[str],
        range_ms: tuple[int, int],
    ) -> Study:
        """Return the study an evaluation belongs to, making it at its first mention.

        Parameters
        ----------
        name : str or None
            None: the market's scratch study, which never holds a seal.
        sealed : bool or None
            Whether a new study keeps a holdout back (None: yes); of an existing one it must be what it was created with.
        feed, category, symbols
            The market.
        range_ms : (int, int)
            Of the evaluation, [start, end) milliseconds UTC; decides the holdout of a new study.
        """
        if name is None:
            if sealed:
                raise BadRequest("a scratch study keeps no holdout back", fix="name a study to seal it: study")
            scratch = f"{_SCRATCH}{feed}:{category}:{'+'.join(symbols)}"
            return await self._create(scratch, (feed, category, symbols), range_ms, None)
        name = _clean(name)
        known = await self._store.find_study(name)
        if known is None:
            known = await self._new(name, sealed is not False, (feed, category, symbols), range_ms)
        return _fitting(known, sealed, (feed, category, symbols))

    async def withheld(self, category: Category, symbol: str, end_ms: int | None = None) -> Withheld | None:
        """Return the seal that lies on a market, or that cuts a range ending at `end_ms`; None when there is none."""
        withheld = await self._store.withheld(self._feed.name, category, symbol)
        return None if withheld is None or (end_ms is not None and end_ms <= withheld.from_ms) else withheld

    async def _new(self, name: str, sealed: bool, market: Market, range_ms: tuple[int, int]) -> Study:
        _, category, symbols = market
        launches = [await self._launch_ms(category, symbol) for symbol in symbols]
        start_ms = max(range_ms[0], *launches)
        end_ms = min(range_ms[1], self._clock.now_ms())
        if start_ms >= end_ms:
            raise BadRequest(
                f"the market has no history from {iso_utc(range_ms[0])} to {iso_utc(range_ms[1])}",
                fix="choose a range in which it traded: get_instrument shows the launch",
            )
        from_ms = holdout_start_ms(start_ms, end_ms) if sealed else None
        created = await self._create(name, market, (start_ms, end_ms), from_ms)
        if sealed:
            await self._store.seal_copies(created.id, at_ms=self._clock.now_ms())
            await self._store.note_seen_before(created.id)
            created = await self._store.study(created.id)
        return created

    async def _create(self, name: str, market: Market, range_ms: tuple[int, int], from_ms: int | None) -> Study:
        feed, category, symbols = market
        return await self._store.create_study(
            name,
            feed=feed,
            category=category,
            symbols=symbols,
            range_ms=range_ms,
            seal_from_ms=from_ms,
            at_ms=self._clock.now_ms(),
        )

    async def _launch_ms(self, category: Category, symbol: str) -> int:
        """Return the first moment of a market; a symbol that neither trades nor is stored is refused."""
        stored = await self._store.list_series(feed=self._feed.name, symbol=symbol)
        firsts = [each.first_ms for each in stored if each.series.category == category and each.first_ms is not None]
        if firsts:
            instrument = await self._instruments.find_if_reachable(category, symbol)
            launch_ms = None if instrument is None else instrument.launch_ms
        else:
            launch_ms = (await self._instruments.find(category, symbol)).launch_ms
        return launch_ms or min(firsts, default=0)


def _clean(name: str) -> str:
    cleaned = name.strip()
    if not _NAME.fullmatch(cleaned):
        raise BadRequest(
            f"{name[:64]!r} is not a name of a study", fix="1 to 64 letters, digits, spaces and . _ + - within"
        )
    return cleaned


def _fitting(study: Study, sealed: bool | None, market: Market) -> Study:
    feed, category, symbols = market
    if sealed is not None and sealed != study.sealed:
        was = "sealed" if study.sealed else "not sealed"
        raise Conflict(
            f"study {study.name!r} was created {was}, and that is for good",
            fix=f'leave "sealed" out, or give {str(study.sealed).lower()}; another study needs another name',
        )
    if (feed, category) != (study.feed, study.category) or not set(symbols) <= set(study.symbols):
        raise Conflict(
            f"study {study.name!r} is about {'+'.join(study.symbols)} {study.category} ({study.feed})",
            fix="name another study for this market, or leave study out",
        )
    return study
