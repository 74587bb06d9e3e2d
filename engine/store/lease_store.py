"""Leases and limits: who may do a named thing now, which hosts refuse us, and who else is asking them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, func, insert, select, update

from engine.store.database import Database
from engine.store.dialect import upsert
from engine.store.tables import BANS, CALLERS, LEASES

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


class LeaseStore(Database):
    """Leases by name, and the memory of the request limiter (`engine.ports.LimitMemory`)."""

    async def take_lease(self, name: str, owner: str, *, now_ms: int, lease_ms: int) -> bool:
        """Take or renew a lease; False while another living owner holds it.

        A lease ends with its time or, sooner, with the process that holds it.
        """
        holder = await self._lease_holder(name)
        if holder is not None and holder != owner and not await self.is_owner_alive(holder):
            await self.release_lease(name, holder)

        async def change(connection: AsyncConnection) -> bool:
            held = select(LEASES.c.owner, LEASES.c.until_ms).where(LEASES.c.name == name)
            row = (await connection.execute(held)).one_or_none()
            if row is not None and row.owner != owner and row.until_ms > now_ms:
                return False
            until_ms = now_ms + lease_ms
            await connection.execute(upsert(LEASES).values(name=name, owner=owner, until_ms=until_ms))
            return True

        return await self._write(change)

    async def release_lease(self, name: str, owner: str) -> None:
        """Give a lease back; nothing happens when somebody else holds it by now."""

        async def change(connection: AsyncConnection) -> None:
            await connection.execute(delete(LEASES).where(and_(LEASES.c.name == name, LEASES.c.owner == owner)))

        await self._write(change)

    async def ban_until_ms(self, host: str) -> int:
        """Return when the ban of this host ends; 0 when there is none."""

        async def query(connection: AsyncConnection) -> int:
            known = (await connection.execute(select(BANS.c.until_ms).where(BANS.c.host == host))).scalar_one_or_none()
            return known or 0

        return await self._read(query)

    async def remember_ban(self, host: str, until_ms: int) -> None:
        """Keep the later of the known end and this one."""

        async def change(connection: AsyncConnection) -> None:
            known = (await connection.execute(select(BANS.c.until_ms).where(BANS.c.host == host))).scalar_one_or_none()
            if known is None:
                await connection.execute(insert(BANS).values(host=host, until_ms=until_ms))
            elif until_ms > known:
                await connection.execute(update(BANS).where(BANS.c.host == host).values(until_ms=until_ms))

        await self._write(change)

    async def active_callers(self, host: str, owner: str, now_ms: int, lease_ms: int) -> int:
        """Renew the lease of `owner` and return how many owners (this one included) hold a live lease."""

        async def change(connection: AsyncConnection) -> int:
            expired = and_(CALLERS.c.host == host, CALLERS.c.until_ms <= now_ms)
            await connection.execute(delete(CALLERS).where(expired))
            await connection.execute(upsert(CALLERS).values(host=host, owner=owner, until_ms=now_ms + lease_ms))
            alive = select(func.count()).select_from(CALLERS).where(CALLERS.c.host == host)
            return int((await connection.execute(alive)).scalar_one())

        return await self._write(change)

    async def _lease_holder(self, name: str) -> str | None:
        async def query(connection: AsyncConnection) -> str | None:
            return (await connection.execute(select(LEASES.c.owner).where(LEASES.c.name == name))).scalar_one_or_none()

        return await self._read(query)
