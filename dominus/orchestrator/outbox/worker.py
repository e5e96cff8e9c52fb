"""The task that empties the outbox: one for each running orchestrator, and any number of them share the work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import TYPE_CHECKING

from dominus.errors import DominusError
from dominus.orchestrator.engines.mail.relay import Delivery
from dominus.orchestrator.engines.postgres.errors import FAILURES
from dominus.orchestrator.net.tasks import end_task
from dominus.orchestrator.outbox.store import CHANNEL, Claimed, OutboxStore
from dominus.orchestrator.outbox.verdict import BackOff, decide

if TYPE_CHECKING:
    from dominus.orchestrator.engines.mail.relay import Relay
    from dominus.orchestrator.engines.postgres.pools import Postgres
    from dominus.orchestrator.settings import ServerSettings

__all__ = ["OutboxWorker"]

_log = logging.getLogger("dominus.courier")

POLL_SECONDS = 30.0
"""So long it waits at most without being told: a notification may be lost with its connection."""
REST_SECONDS = 5.0
"""After so long without a mail, idle connections to the relay are closed."""
AWAY_FIRST_SECONDS, AWAY_LONGEST_SECONDS = 1.0, 60.0
"""The pauses while the relay is away: one mail after each of them is the probe."""
RECORD_RETRY_SECONDS = 0.5
DRAIN_SECONDS = 10.0
"""The most that mails in flight get when the server stops."""


class OutboxWorker:
    """Takes due mails and hands them to the relay, several at a time."""

    def __init__(self, postgres: Postgres, relay: Relay, settings: ServerSettings) -> None:
        """Prepare; `open` begins.

        Args:
            postgres: where the outbox is.
            relay: what takes the mails.
            settings: the orchestrator's.
        """
        self._postgres = postgres
        self._store = OutboxStore(postgres.system)
        self._relay = relay
        self._concurrency = settings.courier_concurrency
        self._try_seconds = settings.courier_timeout
        # A try never takes so long, so who is `sending` for longer has died, or lost the database.
        self._lease_seconds = 2 * settings.courier_timeout + 1.0
        self._drain_seconds = min(settings.shutdown_grace, DRAIN_SECONDS)
        self._back_off = BackOff(settings.courier_retry_base, settings.courier_retry_cap)
        self._chance = random.Random()  # noqa: S311 - spreads tries, guards nothing
        self._wake = asyncio.Event()
        self._in_flight: dict[asyncio.Task[None], str] = {}
        self._task: asyncio.Task[None] | None = None
        self._away_count = 0
        self._paused_until = 0.0
        self._recover_at = 0.0
        self._is_resting = True

    async def open(self) -> None:
        """Listen for new mails, and begin."""
        await self._postgres.listen(CHANNEL, lambda _payload: self._wake.set())
        self._task = asyncio.create_task(self._run(), name="dominus-outbox")

    async def aclose(self) -> None:
        """Take no more mails, wait a while for those in flight, and leave the others to be sent again."""
        if self._task is not None:
            await end_task(self._task)
        if self._in_flight:
            await asyncio.wait(list(self._in_flight), timeout=self._drain_seconds)
        for task in list(self._in_flight):
            await end_task(task)
        await self._relay.aclose()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                wait_seconds = await self._begin_due()
            except (DominusError, *FAILURES) as error:
                _log.warning("the outbox cannot be read: %s", type(error).__name__)
                wait_seconds = AWAY_FIRST_SECONDS
            await self._sleep(wait_seconds)

    async def _begin_due(self) -> float:
        """Begin to send what is due; return for how long there is nothing more to do."""
        now = time.monotonic()
        if now >= self._recover_at:
            self._recover_at = now + self._lease_seconds / 4
            # What became of our own is known here, however long the database was away.
            if count := await self._store.recover(self._lease_seconds, self._in_flight.values()):
                _log.warning("%d mails were being sent when their process ended: they are sent again", count)
        if now < self._paused_until:
            return self._paused_until - now
        free = (1 if self._away_count else self._concurrency) - len(self._in_flight)
        longest = min(POLL_SECONDS, self._lease_seconds / 4)
        if free <= 0:
            return longest
        found = await self._store.claim(free)
        for claimed in found:
            task = asyncio.create_task(self._send(claimed), name="dominus-mail")
            self._in_flight[task] = claimed.mail.message_id
            task.add_done_callback(self._ended)
        if len(found) == free:
            return longest
        next_due = await self._store.seconds_to_next()
        # A mail that is due and was not found is locked by another replica: look again, but not at once.
        return longest if next_due is None else min(longest, max(next_due, 0.1))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._in_flight.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a mail was not sent, by a mistake of ours", exc_info=error)
        self._wake.set()

    async def _sleep(self, seconds: float) -> None:
        if not self._is_resting and not self._in_flight and seconds > REST_SECONDS:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), REST_SECONDS)
                return
            seconds -= REST_SECONDS
            self._is_resting = True
            await self._relay.rest()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def _send(self, claimed: Claimed) -> None:
        self._is_resting = False
        try:
            delivery = await self._delivered(claimed)
        except asyncio.CancelledError:
            ended = Delivery(error="the server stopped before the relay answered", is_uncertain=True)
            await asyncio.shield(self._record(claimed, ended, tries=1))
            raise
        self._note(delivery)
        await self._record(claimed, delivery)

    async def _delivered(self, claimed: Claimed) -> Delivery:
        try:
            async with asyncio.timeout(self._try_seconds):
                return await self._relay.deliver(claimed.mail)
        except TimeoutError:
            said = f"no answer within {self._try_seconds:g} s"
            return Delivery(error=said, is_uncertain=True)
        except Exception as error:  # noqa: BLE001 - logged whole
            # A mail that cannot be written must not stand in the way of the others, nor be lost.
            _log.exception("mail %s was not sent, by a mistake of ours", claimed.mail.message_id)
            return Delivery(error=f"not sent: {type(error).__name__}")

    def _note(self, delivery: Delivery) -> None:
        if not delivery.is_away:
            if self._away_count:
                _log.warning("the mail relay takes mails again")
            self._away_count = 0
            return
        pause = min(AWAY_LONGEST_SECONDS, AWAY_FIRST_SECONDS * 2.0 ** min(self._away_count, 10))
        pause = max(pause * (0.5 + self._chance.random() / 2), min(delivery.retry_after or 0.0, POLL_SECONDS))
        self._paused_until = time.monotonic() + pause
        if not self._away_count:
            _log.error("the mail relay takes no mails: %s", delivery.error)
        self._away_count += 1

    async def _record(self, claimed: Claimed, delivery: Delivery, tries: int | None = None) -> None:
        """Write what became of a try; while the database is away, again and again: this process alone knows it."""
        verdict = decide(
            delivery,
            claimed.mail.recipients,
            attempt=claimed.attempt,
            has_accepted=claimed.has_accepted,
            is_last=claimed.is_last,
            back_off=self._back_off,
            chance=self._chance,
        )
        if verdict.status == "dead":
            _log.error("mail %s is given up: %s", claimed.mail.message_id, verdict.error)
        made = 0
        while True:
            made += 1
            try:
                is_ours = await self._store.record(
                    claimed,
                    verdict,
                    refused=delivery.refused,
                    has_accepted=bool(delivery.accepted),
                    is_uncertain=delivery.is_uncertain,
                )
            except FAILURES as error:
                _log.warning(
                    "mail %s: what became of it is not recorded yet: %s",
                    claimed.mail.message_id,
                    type(error).__name__,
                )
                if made == tries:
                    return
                await asyncio.sleep(RECORD_RETRY_SECONDS)
                continue
            if not is_ours:
                _log.warning("mail %s: another process had taken it over meanwhile", claimed.mail.message_id)
            return
