"""Which logins are over, as one replica knows it: told by NOTIFY, and looked up every other second besides.

A token of a login is verified without a query: its session is looked for among those that were revoked while tokens of
them may live. When the last look is too long ago (PostgreSQL was away), the database itself is asked; so a token of a
revoked session is refused within MAX_AGE_SECONDS, or nobody is let in.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from dominus.errors import DominusError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.identity.principal import Principal

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Pool

__all__ = ["CHANNEL", "LOOK_SECONDS", "MAX_AGE_SECONDS", "Listen", "Revocations"]

CHANNEL = "dominus_revoked"
LOOK_SECONDS = 2.0
MAX_AGE_SECONDS = 4.0
"""So old what is known may be; with the time of a look itself it makes less than 5 s."""
_MARGIN_SECONDS = 60.0
"""Clocks of replicas and of the database differ."""
_LOOK = """
SELECT id
FROM dominus.portal_sessions
WHERE revoked_at > now() - make_interval(secs => $1)
"""
_ASK = """
SELECT revoked_at IS NULL AND expires_at > now()
FROM dominus.portal_sessions
WHERE project = $1 AND environment = $2 AND id = $3::text::uuid
"""
Listen = Callable[[str, Callable[[str | None], None]], Awaitable[None]]
_log = logging.getLogger("dominus.orchestrator")


class Revocations:
    """The sessions that were revoked lately. It begins to listen and look with the first token of a login."""

    def __init__(
        self, pool: Pool, listen: Listen, *, lifetime_seconds: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare.

        Args:
            pool: of the system.
            listen: calls back for each notification of a channel.
            lifetime_seconds: for which an access token of a session is good.
            now: a clock that never goes back.
        """
        self._pool = pool
        self._listen = listen
        self._now = now
        # A token of the gateway lives as long as the one that it was made with.
        self._kept_seconds = lifetime_seconds + _MARGIN_SECONDS
        self._revoked: dict[str, float] = {}
        self._looked_at = -math.inf
        self._is_listening = False
        self._keeper: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """Learn no more."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    def note(self, session_id: str | None) -> None:
        """Refuse a session from now on; None: some may have been missed."""
        if session_id is None:
            self._looked_at = -math.inf
        else:
            self._revoked[session_id] = self._now() + self._kept_seconds

    async def has(self, principal: Principal) -> bool:
        """Tell whether the session of a principal is over.

        Raises:
            ServiceError: that cannot be known right now.
        """
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="dominus-revocations")
        if principal.session_id in self._revoked:
            return True
        if self._now() - self._looked_at <= MAX_AGE_SECONDS:
            return False
        try:
            is_open = await self._pool.fetchval(
                _ASK, principal.project, principal.environment, principal.session_id
            )
        except FAILURES as error:
            raise from_postgres(error) from error
        return not is_open

    async def _keep(self) -> None:
        is_failing = False
        while True:
            try:
                await asyncio.wait_for(self._learn(), MAX_AGE_SECONDS)
                is_failing = False
            except (DominusError, *FAILURES) as error:
                if not is_failing:
                    _log.warning("cannot look for logins that are over: %s", type(error).__name__)
                is_failing = True
            await asyncio.sleep(LOOK_SECONDS)

    async def _learn(self) -> None:
        if not self._is_listening:
            await self._listen(CHANNEL, self.note)
            self._is_listening = True
        began = self._now()
        for row in await self._pool.fetch(_LOOK, self._kept_seconds):
            self._revoked.setdefault(str(row["id"]), began + self._kept_seconds)
        self._revoked = {name: until for name, until in self._revoked.items() if until > began}
        self._looked_at = began
