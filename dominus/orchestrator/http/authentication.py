"""Who sends a request, and whether there is room in its rate."""

from __future__ import annotations

from dominus.contract import envelope
from dominus.contract.kinds import Auth
from dominus.errors import AuthenticationError, DominusError, RateLimitError
from dominus.orchestrator.handlers.resources import Resources
from dominus.orchestrator.http.exchange import Exchange, address_of
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.net.rate_limit import RateLimiter
from dominus.orchestrator.net.shared_rate_limit import SharedRateLimiter

__all__ = ["Authentication"]

OPEN_BODY_BYTES = 64 * 1024
"""What a caller may send who showed no token."""

SINGLE_HEADERS = (
    b"authorization",
    b"idempotency-key",
    b"host",
    envelope.PROJECT_HEADER.lower().encode(),
    envelope.ENVIRONMENT_HEADER.lower().encode(),
)


class Authentication:
    """Knows callers by their tokens, and counts their requests.

    Principals, addresses that show no token, and addresses whose tokens are refused are counted apart: no user takes
    an address's name, or its share.
    """

    def __init__(self, resources: Resources) -> None:
        settings = resources.settings
        self._tokens = resources.tokens
        self._psks = resources.psks
        self._rate = settings.rate_limit
        self._by_principal = self._shared = None
        self._by_address = None
        if settings.rate_limit is not None:
            self._by_address = RateLimiter(settings.rate_limit, settings.rate_burst)
            if resources.redis.is_embedded:
                # There is no other worker.
                self._by_principal = RateLimiter(settings.rate_limit, settings.rate_burst)
            else:
                self._shared = _shared_limiter(resources, settings.rate_limit)
        per_minute = settings.failed_auth_per_minute
        self._refused = RateLimiter(per_minute / 60, per_minute)

    async def aclose(self) -> None:
        """Stop counting."""
        if self._shared is not None:
            await self._shared.aclose()

    async def admit(self, exchange: Exchange, auth: Auth) -> None:
        """Find out who calls, and count the request.

        Raises:
            AuthenticationError: nobody we know.
            RateLimitError: too many requests of this caller, or refused ones of this address.
        """
        if auth is Auth.NONE:
            exchange.body.restrict(OPEN_BODY_BYTES)
            wait = self._by_address.take(address_of(exchange)) if self._by_address is not None else 0.0
        else:
            exchange.principal = await self.principal(exchange, auth)
            wait = await self._wait_of(exchange.principal.subject)
        if wait:
            raise RateLimitError(f"more than {self._rate:g} requests a second", retry_after=wait)

    async def _wait_of(self, subject: str) -> float:
        if self._shared is not None:
            wait = self._shared.take(subject)
            return await self._shared.wait_for(subject) if wait is None else wait
        return self._by_principal.take(subject) if self._by_principal is not None else 0.0

    async def principal(self, exchange: Exchange, auth: Auth) -> Principal:
        """Return who calls, by token or PSK.

        Raises:
            AuthenticationError: nobody we know.
            RateLimitError: and this address tried too often.
        """
        try:
            return await self._known(exchange, auth)
        except AuthenticationError as error:
            wait = self._refused.take(address_of(exchange))
            if wait:
                raise RateLimitError("too many refused tokens from this address", retry_after=wait) from error
            raise

    def counted(self, exchange: Exchange, error: DominusError) -> DominusError:
        """Count a login that failed as a refused token of its address; return what the caller is told."""
        wait = self._refused.take(address_of(exchange)) if error.code == "login_failed" else 0.0
        if wait:
            return RateLimitError("too many failed logins from this address", retry_after=wait)
        return error

    async def _known(self, exchange: Exchange, auth: Auth) -> Principal:
        exchange.refuse_repeated(*SINGLE_HEADERS)
        scheme, _, credential = (exchange.header(b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not credential:
            raise AuthenticationError("no bearer token was sent", code="token_missing")
        if auth is Auth.TOKEN:
            return await self._tokens.verify(credential)
        if auth is Auth.SESSION:
            return (await self._tokens.verify_session(credential)).principal
        found = await self._psks.principal_of(
            credential,
            exchange.header(envelope.PROJECT_HEADER.lower().encode()),
            exchange.header(envelope.ENVIRONMENT_HEADER.lower().encode()),
        )
        if found is None:
            raise AuthenticationError(
                "unknown token", code="token_unknown", hint="is DOMINUS_TOKEN this server's?"
            )
        return found


def _shared_limiter(resources: Resources, rate: float) -> SharedRateLimiter:
    redis, burst = resources.redis, resources.settings.rate_burst

    async def ask(name: str, wanted: float, on_credit: float) -> tuple[float, float]:
        # The first two arguments are those of every script: no idempotency.
        given, level = await redis.run(
            "rate", [f"dominus-rate:{name}"], ("", 0, rate, burst, wanted, on_credit)
        )
        return float(given), float(level)

    return SharedRateLimiter(rate, burst, ask)
