"""A circuit breaker per service: pybreaker keeps its state, the rules in front of it are ours.

    closed --half of 5 or more calls of 10 s failed, or nobody listens--> paused --failing for 1 s--> open
       ^------------------------------ one success --------------------------'----------------------'

Paused and open, one attempt at a time goes out to probe the service, and every other call waits for how it went. What
differs is a call that cannot wait until the next probe: it goes out while the breaker is paused, unless nobody listens,
and is refused when it is open. So a failure of some milliseconds costs nobody a call, and a long one costs no time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dominus.transport.clock import Clock

if TYPE_CHECKING:
    from dominus.transport.circuit import BreakerName, Circuit

__all__ = ["Breaker", "Wait", "probe_wait"]

WINDOW_SECONDS = 10.0
"""Calls are counted over so long, from the first that failed."""
FIRST_PROBE_SECONDS = 0.25
FIRST_PROBE_AWAY_SECONDS = 0.5
"""Where nobody listens: no process starts in less."""
STEADY_PROBE_SECONDS = 1.0
EARLY_SECONDS = 10.0
"""So long a probe goes out each second where it costs nothing (nobody listens), or where the server asked for it."""
OPEN_SECONDS = 1.0
"""Who has failed for less is waited for, and nobody is refused."""
_log = logging.getLogger("dominus.transport")


def probe_wait(
    age: float, longest: float, jitter: float, *, first: float = FIRST_PROBE_SECONDS, is_cheap: bool = False
) -> float:
    """Return the seconds until the next probe of a service that has failed for `age` seconds.

    Probes come after `first`, 1, 2 and 3 seconds, then each time that it has been failing for a third longer, from
    10 s on for half as long again. Cheap ones keep to a second up to 10 s. In 20 s that makes 11 probes, cheap ones
    12. Chance takes up to a tenth off.
    """
    if age >= EARLY_SECONDS:
        later = age / 2
    else:
        later = STEADY_PROBE_SECONDS if is_cheap else age / 3
    wait = min(max(age, first), max(STEADY_PROBE_SECONDS, later), longest)
    return wait * (1.0 - jitter / 10)


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a call does not go out at once."""

    seconds: float
    """Until it makes sense to ask again."""
    is_open: bool
    """It is refused if it cannot wait so long."""
    age: float
    """The seconds that the service has been failing."""


@dataclass(slots=True)
class _Outage:
    """A service that fails; moments are on the client's clock."""

    since: float
    began: float
    """When it was noticed: an attempt of before tells nothing new."""
    due: float
    """When the next probe may go."""
    is_away: bool = False
    """Nobody listened at the last attempt: trying again at once would only meet the same."""
    told_by: float = -math.inf
    """When it is known how the probe went that is under way, if it goes well."""


class Breaker:
    """Shared by the loops and threads of a process. `enter`, then exactly one of `success`, `failure`, `abandon`.

    Args:
        clock: the time that the waits live in.
        threshold: failed calls that pause it, if they are half of those in the window.
        longest_wait: the longest wait for a probe, in seconds.
        random: 0 to 1, so that many clients do not probe at one instant.
        on_change: told the old and the new state, after the change.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        threshold: int = 5,
        longest_wait: float = 30.0,
        random: Callable[[], float] = lambda: 0.0,
        on_change: Callable[[BreakerName, BreakerName], None] | None = None,
    ) -> None:
        self._clock = clock
        self._threshold = threshold
        self._longest_wait = longest_wait
        self._random = random
        self._on_change = on_change
        self._lock = threading.Lock()
        self.is_calm = True
        """Nothing failed lately: nothing to ask and nothing to count."""
        self._circuit: Circuit | None = None
        self._outage: _Outage | None = None
        self._window_began = -math.inf
        self._failed = self._succeeded = 0
        self._failing_since: float | None = None
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = set()

    @property
    def state(self) -> BreakerName:
        """`closed`, `open` or `half-open`; paused counts as closed, since nobody is refused."""
        circuit, outage = self._circuit, self._outage
        if circuit is None or outage is None or circuit.state == "closed":
            return "closed"
        return "open" if circuit.state == "open" and outage.due > self._clock.monotonic() else "half-open"

    @property
    def is_paused(self) -> bool:
        """Whether attempts go out one at a time: paused, or open."""
        return self._outage is not None

    def enter(self, *, is_stream: bool = False) -> Wait | None:
        """Return None when an attempt may go out, else what it waits for.

        Args:
            is_stream: it may take long, so that how it goes would be known late: others may probe beside it.
        """
        if self.is_calm:
            return None
        with self._lock:
            outage, circuit = self._outage, self._circuit
            if outage is None:
                return None
            now = self._clock.monotonic()
            if now < outage.due:
                return self._wait(outage, now)
            if now - outage.due > 2 * self._longest_wait:
                # Nobody has asked for long: what was known is out of date.
                outage.since = now
            if is_stream:
                outage.due = now + FIRST_PROBE_SECONDS
            else:
                # When it is not heard of, another goes.
                outage.told_by = now + STEADY_PROBE_SECONDS
                outage.due = now + max(STEADY_PROBE_SECONDS, self._gap(now - outage.since))
            if circuit is not None and circuit.state == "open":
                circuit.half_open()
        self._tell()
        return None

    def refusal(self) -> Wait | None:
        """Return the wait until the next probe while it is open; None: nobody is refused at this moment."""
        with self._lock:
            outage, now = self._outage, self._clock.monotonic()
            wait = None if outage is None or outage.due <= now else self._wait(outage, now)
        return wait if wait is not None and wait.is_open else None

    def success(self) -> None:
        """Close: the service answered."""
        if self.is_calm:
            return
        with self._lock:
            self._failing_since = None
            self._succeeded += 1
            has_failed_lately = self._clock.monotonic() - self._window_began <= WINDOW_SECONDS
            if self._outage is not None or not has_failed_lately:
                self._outage = None
                self._failed = self._succeeded = 0
                self.is_calm = True
            if self._circuit is not None:
                self._circuit.close()
        self._wake()
        self._tell()

    def failure(
        self,
        began: float,
        *,
        is_counted: bool = True,
        is_away: bool = False,
        retry_after: float | None = None,
    ) -> None:
        """Note an attempt that a failure of the service ended.

        Args:
            began: when it was sent.
            is_counted: it is the first failure of its call.
            is_away: nobody took it, which one attempt tells for certain.
            retry_after: the seconds that the server asked for.
        """
        with self._lock:
            now = self._clock.monotonic()
            self.is_calm = False
            if is_counted:
                self._count(now)
            since = self._failing_since = now if self._failing_since is None else self._failing_since
            is_cheap = is_away or retry_after is not None
            outage = self._outage
            if outage is None:
                if not is_away and not self._is_bad():
                    return
                outage = self._outage = _Outage(since, now, now)
            elif began <= outage.began:
                # Of before: it would only prolong the wait.
                return
            first = FIRST_PROBE_AWAY_SECONDS if is_away else FIRST_PROBE_SECONDS
            gap = max(
                self._gap(now - outage.since, first=first, is_cheap=is_cheap),
                min(retry_after or 0.0, self._longest_wait),
            )
            outage.due, outage.told_by, outage.is_away = now + gap, -math.inf, is_away
            if now - outage.since >= OPEN_SECONDS:
                self._circuit = self._circuit or _make_circuit()
                self._circuit.open()
        self._tell()

    def abandon(self, began: float) -> None:
        """Free the probe's place: its outcome is not known (cancelled, or the deadline passed)."""
        if self.is_calm:
            return
        with self._lock:
            if self._outage is None or began <= self._outage.began:
                return
            self._outage.due = min(self._outage.due, self._clock.monotonic())
        self._wake()

    async def rest(self, wait: Wait) -> None:
        """Wait until it makes sense to ask again: the time is over, or the service is back."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        place = (loop, woken)
        with self._lock:
            if self._outage is None:
                return
            self._waiting.add(place)
        sleep = loop.create_task(_as_coroutine(self._clock, wait.seconds))
        try:
            await asyncio.wait({sleep, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            with self._lock:
                self._waiting.discard(place)

    def _wait(self, outage: _Outage, now: float) -> Wait:
        circuit = self._circuit
        is_open = outage.is_away or (circuit is not None and circuit.state != "closed")
        # A probe is given a second before its wait is held against anybody.
        until = outage.told_by if now < outage.told_by else outage.due
        return Wait(until - now, is_open, now - outage.since)

    def _count(self, now: float) -> None:
        if now - self._window_began > WINDOW_SECONDS:
            self._window_began, self._failing_since = now, None
            self._failed = self._succeeded = 0
        self._failed += 1

    def _is_bad(self) -> bool:
        return self._failed >= self._threshold and self._failed >= self._succeeded

    def _gap(self, age: float, *, first: float = FIRST_PROBE_SECONDS, is_cheap: bool = False) -> float:
        return probe_wait(age, self._longest_wait, self._random(), first=first, is_cheap=is_cheap)

    def _wake(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        for loop, woken in waiting:
            # A loop that is closed waits for nothing.
            if not loop.is_closed():
                loop.call_soon_threadsafe(_set, woken)

    def _tell(self) -> None:
        """Tell the listener what changed, after the locks: it may ask us for the state, or take long."""
        if self._circuit is None:
            return
        with self._lock:
            changes = self._circuit.take_changes()
        for old, new in changes:
            if self._on_change is None:
                continue
            try:
                self._on_change(old, new)
            except Exception:  # noqa: BLE001 - whatever a user's function raises
                # The call that met the change is another's than the listener's.
                _log.exception("on_breaker_change failed")


async def _as_coroutine(clock: Clock, seconds: float) -> None:
    await clock.sleep(seconds)


def _set(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def _make_circuit() -> Circuit:
    # pybreaker imports redis-py where it is installed, 36 ms; the pool's opening has done it by now.
    from dominus.transport.circuit import Circuit

    return Circuit()
