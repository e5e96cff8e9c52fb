"""The database logins of one session: a new one when the last grows old, all released at the end."""

from __future__ import annotations

import asyncio

from dominus.sessions.access import Access, Login

__all__ = ["Logins"]


class Logins:
    """Belongs to one session and event loop."""

    def __init__(self, access: Access, database: str | None) -> None:
        self._access = access
        self._database = database
        self._made: list[Login] = []
        self._making = asyncio.Lock()

    async def current(self) -> Login:
        """Return a login that opens connections now."""
        async with self._making:
            if not self._made or asyncio.get_running_loop().time() >= self._made[-1].good_until:
                self._made.append(await self._access.login(self._database))
            return self._made[-1]

    async def release(self) -> None:
        """End them all, and with them what they have open."""
        made, self._made = self._made, []
        for login in made:
            await self._access.release(login)
