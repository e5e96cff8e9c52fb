"""The attempts after a failed one: tenacity asks and waits, retry.py answers.

Only a call whose first attempt has failed comes here, so tenacity costs a call that works nothing.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, wait_exponential

from dominus.transport.call import Call
from dominus.transport.failure import Failure
from dominus.transport.retry import Facts, back_off, can_repeat, is_enough, is_start
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
        self._is_start = False
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
        # Full jitter. tenacity's own takes its chance from the global random, which tests cannot set.
        wait = self._shared.random() * self._ceiling(state) if own is None else own(self._as_users_see(state))
        return back_off(self._failure, float(wait))

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
        self._is_start = is_start(failure, facts, after)
        # The budget is for servers that fail: one that starts does not, nor does one that asks for fewer calls.
        if self._is_start or error.status_code == 429 or self._shared.budget.spend():
            return False
        error.hint = "not tried again: the retry budget is empty, the server fails too often"
        return True

    def _note(self, state: RetryCallState) -> None:
        shared, failure, call = self._shared, self._failure, self._call
        shared.retries += 1
        _log.debug(
            "%s is tried again in %.3f s: %s", call.op.name, state.upcoming_sleep, failure.error.message
        )
        if self._is_start:
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
            cold_left=self._shared.policy.cold_start_timeout - (now - call.began) if call.was_cold else 0.0,
        )

    def _as_users_see(self, state: RetryCallState) -> RetryCallState:
        """Let the call last as long as our clock says; tenacity knows the machine's only, and not the first attempt."""
        if state.outcome_timestamp is not None:
            state.start_time = state.outcome_timestamp - (self._shared.clock.monotonic() - self._call.began)
        return state
