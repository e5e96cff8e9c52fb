"""How one call travels.

deadline -> retry -> breaker -> credentials -> wire -> decode -> typed result or typed error
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar, cast

from dominus.contract import envelope
from dominus.contract.auth import MINT, MintAnswer, MintRequest
from dominus.contract.codes import USERS_FAULT
from dominus.contract.envelope import Dialect
from dominus.contract.kinds import Auth, Retry
from dominus.contract.operation import Operation
from dominus.contract.request import Request
from dominus.contract.values import restore_rows
from dominus.crypto import SecretBox
from dominus.errors import (
    AuthenticationError,
    CircuitOpenError,
    DominusConnectionError,
    DominusError,
    DominusTimeoutError,
    ServiceError,
)
from dominus.transport.breaker import Breaker
from dominus.transport.call import Call
from dominus.transport.carriers.base import OpenAnswer, Outgoing
from dominus.transport.clock import SystemClock
from dominus.transport.credentials import Credentials
from dominus.transport.deadline import block_deadline, block_fails_fast, check_timeout
from dominus.transport.decode import Wire, checked, wrong_shape
from dominus.transport.encode import Lines, body_of, path_of, raw_of, stream_of
from dominus.transport.failure import Failure
from dominus.transport.idempotency_key import new_key
from dominus.transport.repeats import Repeats
from dominus.transport.request_id import current_request_id
from dominus.transport.scopes import Scope, Scopes
from dominus.transport.shared import Shared
from dominus.transport.turn import check_turn, take_turn

__all__ = ["Pipeline"]

Data = TypeVar("Data")
_log = logging.getLogger("dominus.transport")
HANGING_SECONDS = 5.0
"""An attempt that was cancelled after so long counts against the service; a shorter one tells nothing."""
BRIEF_SECONDS = 0.5
"""An attempt that is under way for less says nothing yet about the server, though its deadline has passed."""


class Pipeline:
    """Carries the calls of one event loop."""

    def __init__(self, shared: Shared, wire: Wire, psk: str, *, speaks_json: bool) -> None:
        self._shared = shared
        self._wire = wire
        self._psk = psk
        self._clock = shared.clock
        self._scopes = Scopes()
        is_real = type(shared.clock) is SystemClock
        self._timeout: Callable[[float], Scope] = self._scopes.timeout if is_real else shared.clock.timeout
        self.speaks_json = speaks_json
        """The server showed that it is one of ours."""
        self.box = SecretBox(psk, "memory")
        self.credentials = Credentials(shared.clock, self.box, self._mint, shared.token)

    async def call(
        self,
        op: Operation[Any, Data],
        request: Request,
        *,
        timeout: float | None = None,
        user_token: str | None = None,
        lines: Lines | None = None,
    ) -> Data:
        """Send an operation and return its data.

        Raises:
            DominusError: every failure is one of its kinds.
        """
        shared = self._shared
        shared.calls += 1
        now = self._clock.monotonic()
        was_cold = shared.is_cold(now)
        limit = self._limit(op, timeout, was_cold)
        call = Call(
            op=op,
            request=request,
            path=path_of(op, request),
            fields=None if op.method == "GET" or op.raw_field else body_of(op, request),
            bearer=user_token or (self._psk if op.auth is Auth.PSK else None),
            key=new_key() if op.retry is Retry.KEYED else None,
            lines=lines,
            ends=now + limit,
            began=now,
            was_cold=was_cold,
            fails_fast=block_fails_fast(shared.settings.fail_fast),
        )
        scope = self._timeout(limit)
        try:
            async with scope:
                return await self._until_done(call)
        except TimeoutError as error:
            if isinstance(error, DominusError) or not scope.expired():
                raise
            raise self._too_late(call, limit) from None

    def _too_late(self, call: Call, limit: float) -> DominusError:
        """Return what a deadline has to say: a server that is not there is another thing than one that hangs."""
        now, cause = self._clock.monotonic(), self._shared.last_failure
        hangs = call.sent_at is not None and now - call.sent_at >= BRIEF_SECONDS
        if self._shared.was_refused(now) and not hangs:
            return DominusConnectionError(
                f"{cause}, for {limit:.3g} s",
                endpoint=call.op.name,
                attempts=call.attempts,
                hint="is DOMINUS_URL right, and is it running?",
            )
        return DominusTimeoutError(
            f"no answer within {limit:.3g} s" + (f"; the last try failed: {cause}" if cause else ""),
            endpoint=call.op.name,
            attempts=call.attempts,
        )

    def _limit(self, op: Operation[Any, Any], timeout: float | None, was_cold: bool) -> float:
        """Return the seconds that a call has. Only a deadline that nobody chose makes room for a cold start."""
        block = block_deadline()
        if timeout is not None:
            limit = check_timeout(timeout)
        elif block is not None:
            limit = self._shared.settings.timeout
        elif was_cold:
            return max(self._shared.settings.timeout, self._shared.policy.cold_start_timeout)
        else:
            return self._shared.settings.timeout
        if block is not None:
            limit = min(limit, block)
            if limit <= 0:
                raise DominusTimeoutError(
                    "the deadline of the block has passed, nothing was sent", endpoint=op.name
                )
        return limit

    async def _until_done(self, call: Call) -> Any:
        call.attempts = 1
        try:
            return await self._attempt(call)
        except Failure as failure:
            repeats = Repeats(call, failure, self._shared, self._attempt, lambda: self.speaks_json)
            return await repeats.run()

    async def _attempt(self, call: Call) -> Any:
        """Breaker, credentials, wire, and one replay with a new token after a 401."""
        bearer = call.bearer
        if bearer is None and call.op.auth is Auth.TOKEN:
            bearer = await self._token(call, None)
        try:
            return await self._guarded(call, bearer)
        except Failure as failure:
            is_own = call.bearer is None and bearer is not None
            is_refused = failure.error.status_code == 401 and failure.error.code not in USERS_FAULT
            if not is_refused or not is_own or call.has_reminted or not call.is_replayable:
                raise
            call.has_reminted = True
        return await self._guarded(call, await self._token(call, bearer))

    async def _token(self, call: Call, refused: str | None) -> str:
        credentials = self.credentials
        if not credentials.is_good:
            check_turn(call, self._shared.breaker(MINT.service), MINT.service)
        try:
            return await (credentials.token() if refused is None else credentials.replace(refused))
        except DominusError as error:
            # The mint is a call of its own, with its own retries. Only a server that is away is worth another one.
            is_away = isinstance(error, (CircuitOpenError, DominusConnectionError)) and error.retryable
            raise Failure(error, never_left=True, is_final=call.was_cold or not is_away) from None

    async def _guarded(self, call: Call, bearer: str | None) -> Any:
        shared = self._shared
        breaker = shared.breaker(call.op.service)
        if not breaker.is_calm:
            await take_turn(call, breaker, self._clock)
        shared.attempts += 1
        sent_at = call.sent_at = self._clock.monotonic()
        try:
            answer = await self._wire.send(self._outgoing(call, bearer))
            data = self._decoded(call.op, answer.body)
        except Failure as failure:
            call.sent_at = None
            if call.lines is not None and call.lines.error is not None:
                # Neither the wire nor the server failed: the caller's rows did.
                breaker.abandon(sent_at)
                raise call.lines.error from None
            _hide(bearer, failure.error)
            self._note_failure(call, breaker, failure, sent_at)
            raise
        except BaseException:
            self._note_end(call, breaker, sent_at)
            raise
        breaker.success()
        now = self._clock.monotonic()
        shared.succeeded(now)
        if _log.isEnabledFor(logging.DEBUG):
            _log_attempt(call, now - sent_at, answer.status, answer.request_id)
        if answer.speaks_json:
            self.speaks_json = shared.speaks_json = True
        return data

    def _note_failure(self, call: Call, breaker: Breaker, failure: Failure, sent_at: float) -> None:
        shared, now = self._shared, self._clock.monotonic()
        is_wrong_port = failure.is_refused and not shared.waits_for_refused
        if is_wrong_port:
            failure.is_cold_sign = False
        is_brief = failure.error.code == "deadline" and now - sent_at < BRIEF_SECONDS
        if not failure.is_system:
            breaker.success()
        elif is_wrong_port or is_brief or (call.was_cold and failure.is_cold_sign):
            breaker.abandon(sent_at)
        else:
            breaker.failure(
                sent_at,
                is_counted=not call.was_counted,
                is_away=failure.never_left and not call.was_cold,
                retry_after=failure.error.retry_after,
            )
            call.was_counted = True
        shared.failed(now, failure)
        if _log.isEnabledFor(logging.DEBUG):
            error = failure.error
            _log_attempt(call, now - sent_at, error.status_code or type(error).__name__, error.request_id)

    def _note_end(self, call: Call, breaker: Breaker, sent_at: float) -> None:
        """Judge an attempt that was cancelled: by the call's own deadline, or by whoever waited for it."""
        now = self._clock.monotonic()
        least = BRIEF_SECONDS if now >= call.ends else HANGING_SECONDS
        if now - sent_at >= least:
            breaker.failure(sent_at, is_counted=not call.was_counted)
            call.was_counted = True
        else:
            breaker.abandon(sent_at)

    def _decoded(self, op: Operation[Any, Any], body: Any) -> Any:
        if isinstance(body, OpenAnswer):
            return body
        if op.is_raw and isinstance(body, bytes):
            return {"data": body}
        try:
            data = checked(
                body, op.required_keys, op.list_key, op.name, is_plain=op.is_plain, is_list=op.is_list
            )
        except ServiceError as error:
            raise Failure(error, is_final=not error.retryable) from None
        if isinstance(types := body.get("types"), dict):
            # A user's own row may have a column `items`.
            rows = data["items"] if "items" in op.required_keys else [data]
            try:
                restore_rows(rows, cast("dict[str, str]", types))
            except (AttributeError, TypeError):
                raise Failure(wrong_shape(op.name, "rows or `types`"), is_final=True) from None
        return data

    def _outgoing(self, call: Call, bearer: str | None) -> Outgoing:
        op = call.op
        dialect = Dialect.JSON if self.speaks_json else Dialect.BASE64
        accepted = self._accepted(op)
        headers = {"content-type": dialect.value, "accept": accepted, "accept-encoding": "identity"}
        if bearer is not None:
            headers["authorization"] = f"Bearer {bearer}"
        if call.key is not None:
            headers[envelope.KEY_HEADER] = call.key
        if (request_id := current_request_id()) is not None:
            headers[envelope.REQUEST_ID_HEADER] = request_id
        left = min(call.ends - self._clock.monotonic(), envelope.MAX_DEADLINE_SECONDS)
        headers[envelope.DEADLINE_HEADER] = str(max(1, int(left * 1000)))
        if op.auth is Auth.PSK:
            self._name_partition(headers)
        content: bytes | AsyncIterator[bytes] | None = None
        if call.lines is not None and self.speaks_json:
            headers["content-type"] = envelope.JSON_LINES
            content = stream_of(call.fields or b"{}", call.lines)
        elif call.lines is not None:
            rows = call.request.model_copy(update={"rows": call.lines.rows()})
            content = envelope.encode(body_of(op, rows), dialect)
        elif call.fields is not None:
            content = envelope.encode(call.fields, dialect)
        elif op.raw_field is not None:
            if self.speaks_json:
                headers["content-type"] = envelope.BYTES
                content = raw_of(op, call.request)
            else:
                content = envelope.encode(body_of(op, call.request), dialect)
        return Outgoing(
            op.method, call.path, headers, content, op.name, is_raw=op.is_raw, is_lines=op.is_lines
        )

    def _accepted(self, op: Operation[Any, Any]) -> str:
        if op.is_lines:
            return envelope.JSON_LINES
        return envelope.BYTES if op.is_raw and self.speaks_json else "*/*"

    def _name_partition(self, headers: dict[str, str]) -> None:
        settings = self._shared.settings
        if settings.project:
            headers[envelope.PROJECT_HEADER] = settings.project
        if settings.environment:
            headers[envelope.ENVIRONMENT_HEADER] = settings.environment

    async def _mint(self) -> MintAnswer:
        self._shared.mints += 1
        try:
            return await self.call(MINT, MintRequest())
        except AuthenticationError as error:
            error.hint = error.hint or "the server does not know this DOMINUS_TOKEN"
            raise
        except DominusError as error:
            if error.status_code in {404, 405}:
                raise ServiceError(
                    "the server has no mint: it is not a Dominus server",
                    code="not_dominus",
                    status_code=502,
                    endpoint=MINT.name,
                    retryable=False,
                    hint="does DOMINUS_URL point at a Dominus server?",
                ) from None
            raise

    def abandon(self) -> None:
        """Let go of everything without a loop, at the end of the program."""
        self._wire.carrier.abandon()

    async def aclose(self) -> None:
        """Close the wire."""
        self._scopes.close()
        await self.credentials.aclose()
        await self._wire.aclose()


def _log_attempt(call: Call, seconds: float, outcome: int | str, request_id: str | None) -> None:
    _log.debug(
        "%s attempt %d: %s in %.1f ms, request %s",
        call.op.name,
        call.attempts,
        outcome,
        seconds * 1000,
        request_id or "-",
    )


def _hide(secret: str | None, error: DominusError) -> None:
    # A server may repeat the token in its complaint.
    if secret and secret in f"{error.message} {error.hint} {error.details} {error.code} {error.request_id}":
        error.message = error.message.replace(secret, "***")
        error.args = (error.message,)
        error.hint = error.details = error.request_id = None
        error.code = error.default_code
