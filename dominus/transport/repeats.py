"""The attempts after a failed one: tenacity asks and waits, retry.py answers.

Only a call whose first attempt has failed comes here, so tenacity costs a call that works nothing.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, wait_exponential

from dominus.errors import CircuitOpenError
from dominus.transport.call import Call
from dominus.transport.failure import Failure
from dominus.transport.retry import Facts, back_off, can_repeat, is_awaited, is_enough
from dominus.transport.shared import Shared

__all__ = ["Repeats"]

_log = logging.getLogger("dominus.transport")


class Repeats:
    """Belongs to one call. Its first failure is attempt 1 of tenacity's loop, raised again and not sent again."""

    def __init__(
        self,
        call: Call,
        first: Failure,
        shared: Shared,
        attempt: Callable[[Call], Awaitable[Any]],
        keeps_keys: Callable[[], bool],
    ) -> None:
        self._call = call
        self._shared = shared
        self._attempt = attempt
        self._keeps_keys = keeps_keys
        self._failure = first
        self._is_first = True
        self._is_awaited = False
        policy = shared.policy
        self._ceiling = wait_exponential(multiplier=policy.backoff_base, max=policy.backoff_cap)

    async def run(self) -> Any:
        """Return what a later attempt returned.

        Raises:
            DominusError: of the last attempt.
        """
        retrying = AsyncRetrying(
            retry=self._can_repeat,
            wait=self._back_off,
            stop=self._is_enough,
            before_sleep=self._note,
            sleep=self._shared.clock.sleep,
            reraise=True,
        )
        return await retrying(self._next)

    async def _next(self) -> Any:
        call, failure = self._call, self._failure
        if self._is_first:
            self._is_first = False
        else:
            call.attempts += 1
            try:
                return await self._attempt(call)
            except Failure as failed:
                failure = self._failure = failed
            except CircuitOpenError as refused:
                # What failed is the better answer than that it is not tried again.
                call.attempts -= 1
                failure = self._failure = Failure(failure.error, is_final=True)
                failure.error.retry_after = refused.retry_after
        failure.error.attempts = failure.error.attempts or call.attempts
        raise failure.error from failure.__cause__

    async def _can_repeat(self, state: RetryCallState) -> bool:
        failure = self._failure
        if state.outcome is None or state.outcome.exception() is not failure.error:
            # It worked, was cancelled, or the caller's own rows failed.
            return False
        if not can_repeat(failure, self._facts()):
            return False
        own = self._shared.retry.retry
        if own is None:
            return True
        answer = own(self._as_users_see(state))
        return bool(await answer if inspect.isawaitable(answer) else answer)

    def _back_off(self, state: RetryCallState) -> float:
        own = self._shared.retry.wait
        wait = self._own_back_off(state) if own is None else own(self._as_users_see(state))
        return back_off(self._failure, float(wait))

    def _own_back_off(self, state: RetryCallState) -> float:
        # When a server that is away is tried again is the breaker's to say, to all calls alike.
        is_away = self._failure.never_left and not self._call.was_cold
        ceiling = self._shared.policy.backoff_base if is_away else self._ceiling(state)
        # Full jitter. tenacity's own takes its chance from the global random, which tests cannot set.
        return self._shared.random() * ceiling

    def _is_enough(self, state: RetryCallState) -> bool:
        own = self._shared.retry.stop
        if own is None:
            was_tried_enough = self._call.attempts >= self._shared.policy.max_attempts
        else:
            was_tried_enough = bool(own(self._as_users_see(state)))
        failure, facts, after = self._failure, self._facts(), state.upcoming_sleep
        error = failure.error
        if is_enough(failure, facts, after, was_tried_enough=was_tried_enough):
            if error.status_code == 429 and error.hint is None:
                error.hint = "the rate is too high: make fewer calls a second, or raise the server's limit"
            return True
        self._is_awaited = is_awaited(facts, after)
        # The budget bounds the load of a server that fails. One that starts does not, nor does one that asks for fewer
        # calls; and while the breaker lets out one attempt at a time, that is the bound.
        is_paused = self._shared.breaker(self._call.op.service).is_paused
        if self._is_awaited or is_paused or error.status_code == 429 or self._shared.budget.spend():
            return False
        error.hint = "not tried again: the retry budget is empty, the server fails too often"
        return True

    def _note(self, state: RetryCallState) -> None:
        shared, failure, call = self._shared, self._failure, self._call
        shared.retries += 1
        _log.debug(
            "%s is tried again in %.3f s: %s", call.op.name, state.upcoming_sleep, failure.error.message
        )
        if self._is_awaited and call.was_cold:
            waited = shared.clock.monotonic() - call.began
            shared.tell_cold_start(state.attempt_number, waited, failure.error.message)

    def _facts(self) -> Facts:
        call = self._call
        now = self._shared.clock.monotonic()
        return Facts(
            retry=call.op.retry,
            keeps_keys=self._keeps_keys(),
            is_replayable=call.is_replayable,
            left=call.ends - now,
            patience=self._patience(now),
        )

    def _patience(self, now: float) -> float:
        call, failure, policy = self._call, self._failure, self._shared.policy
        if call.was_cold:
            return policy.cold_start_timeout - (now - call.began) if failure.is_cold_sign else 0.0
        # Nothing was sent, so a restart is waited out as long as the caller does, unless retries are turned off.
        waits = failure.never_left and not call.fails_fast and policy.max_attempts > 1
        return call.ends - now if waits else 0.0

    def _as_users_see(self, state: RetryCallState) -> RetryCallState:
        """Let the call last as long as our clock says; tenacity knows the machine's only, and not the first attempt."""
        if state.outcome_timestamp is not None:
            state.start_time = state.outcome_timestamp - (self._shared.clock.monotonic() - self._call.began)
        return state
