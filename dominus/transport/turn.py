"""Before an attempt: whether its service is tried now, after a wait, or not at all."""

from __future__ import annotations

from dominus.errors import CircuitOpenError
from dominus.transport.breaker import Breaker, Wait
from dominus.transport.call import Call
from dominus.transport.clock import Clock

__all__ = ["check_turn", "take_turn"]


async def take_turn(call: Call, breaker: Breaker, clock: Clock) -> None:
    """Return when an attempt of the call may go out.

    Raises:
        CircuitOpenError: the service fails, and the call must not wait until it is tried again, or cannot.
    """
    while (wait := breaker.enter(is_stream=call.op.is_streamed)) is not None:
        if call.fails_fast or wait.seconds >= call.ends - clock.monotonic():
            if wait.is_open:
                raise _refused(call, wait, call.op.service)
            return
        await breaker.rest(wait)


def check_turn(call: Call, breaker: Breaker, service: str) -> None:
    """Refuse a call that must not wait, when it needs another service first, which fails.

    Raises:
        CircuitOpenError: the other service fails.
    """
    if call.fails_fast and not breaker.is_calm and (wait := breaker.refusal()) is not None:
        raise _refused(call, wait, service)


def _refused(call: Call, wait: Wait, service: str) -> CircuitOpenError:
    return CircuitOpenError(
        f"not sent: {service} has been failing for {wait.age:.3g} s",
        endpoint=call.op.name,
        attempts=call.attempts - 1,
        retry_after=wait.seconds,
        hint=f"it is tried again in {wait.seconds:.2g} s"
        + ("" if call.fails_fast else ", which is after the deadline of this call"),
    )
