"""A circuit breaker per service: pybreaker keeps its state, the rules in front of it are ours.

    closed --5 system failures in a row--> open --0.5 to 1 s--> half-open --one success--> closed
                                             ^-- 2, 4 ... 30 s --- one failure ---'

pybreaker is asked only when something has failed: until the first failure of a service there is no circuit at all.
What it lacks is here: a clock that tests can move, a wait that grows, one probe at a time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from dominus.transport.clock import Clock

if TYPE_CHECKING:
    from dominus.transport.circuit import BreakerName, Circuit

__all__ = ["Breaker", "probe_wait"]

FIRST_PROBE_SECONDS = 1.0
_log = logging.getLogger("dominus.transport")


def probe_wait(openings: int, longest: float, jitter: float) -> float:
    """Return the seconds until a probe, after so many openings in a row: 1, 2, 4 ..., less up to half by chance."""
    ceiling = min(longest, FIRST_PROBE_SECONDS * 2 ** min(openings - 1, 16))
    return ceiling * (1.0 - jitter / 2)


class Breaker:
    """Shared by the loops and threads of a process. `enter`, then exactly one of the other three.

    Args:
        clock: the time that the waits live in.
        threshold: system failures in a row that open it.
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
        self._circuit: Circuit | None = None
        self._is_calm = True
        """Closed, and no failure since the last success: nothing to ask and nothing to tell."""
        self._is_probing = False
        self._openings = 0

    @property
    def state(self) -> BreakerName:
        """`closed`, `open` or `half-open`."""
        circuit = self._circuit
        if circuit is None or circuit.state == "closed":
            return "closed"
        return "open" if circuit.wait_left > 0 else "half-open"

    def enter(self) -> float | None:
        """Return None when an attempt may go out, else the seconds until it makes sense to ask again."""
        if self._is_calm:
            return None
        with self._lock:
            circuit = self._circuit
            if circuit is None or circuit.state == "closed":
                return None
            wait = circuit.wait_left
            if wait > 0:
                return wait
            if self._is_probing:
                # One probe at a time: the others learn how it went a moment later.
                return 1.0
            self._is_probing = True
            if circuit.state == "open":
                circuit.half_open()
        self._tell(circuit)
        return None

    def success(self) -> None:
        """Close: the service answered."""
        if self._is_calm:
            return
        with self._lock:
            circuit = self._circuit
            if circuit is not None:
                circuit.succeed()
            self._is_calm, self._is_probing, self._openings = True, False, 0
        if circuit is not None:
            self._tell(circuit)

    def failure(self) -> None:
        """Count a system failure."""
        with self._lock:
            self._is_calm = False
            circuit = self._circuit = self._circuit or self._make_circuit()
            if circuit.state == "closed" or self._is_probing:
                # One that fails late, of before the opening, would open it anew.
                circuit.fail(probe_wait(self._openings + 1, self._longest_wait, self._random()))
                self._is_probing = False
                self._openings += circuit.state == "open"
        self._tell(circuit)

    def abandon(self) -> None:
        """Free the probe's place: its outcome is not known (cancelled, or the deadline passed)."""
        if self._is_probing:
            with self._lock:
                self._is_probing = False

    def _make_circuit(self) -> Circuit:
        # pybreaker imports redis-py where it is installed, 36 ms; the pool's opening has done it by now.
        from dominus.transport.circuit import Circuit

        return Circuit(self._clock, self._threshold)

    def _tell(self, circuit: Circuit) -> None:
        """Tell the listener what changed, after the locks: it may ask us for the state, or take long."""
        for old, new in circuit.take_changes():
            if self._on_change is None:
                continue
            try:
                self._on_change(old, new)
            except Exception:  # noqa: BLE001 - whatever a user's function raises
                # The call that met the change is another's than the listener's.
                _log.exception("on_breaker_change failed")
