"""Who sends a request, and whether there is room in its rate."""

from __future__ import annotations

from dominus.contract import envelope
from dominus.contract.kinds import Auth
from dominus.errors import AuthenticationError, RateLimitError
from dominus.orchestrator.http.exchange import Exchange, address_of
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.identity.tokens import Tokens
from dominus.orchestrator.net.rate_limit import RateLimiter
from dominus.orchestrator.settings import ServerSettings

__all__ = ["Authentication"]

OPEN_BODY_BYTES = 64 * 1024
"""What a caller may send who showed no token."""


class Authentication:
    """Knows callers by their tokens, and counts their requests."""

    def __init__(self, tokens: Tokens, settings: ServerSettings) -> None:
        self._tokens = tokens
        self._rate = settings.rate_limit
        self._by_principal = RateLimiter(settings.rate_limit, settings.rate_burst)
        per_minute = settings.failed_auth_per_minute
        self._refused = RateLimiter(per_minute / 60, per_minute)

    async def admit(self, exchange: Exchange, auth: Auth) -> None:
        """Find out who calls, and count the request.

        Raises:
            AuthenticationError: nobody we know.
            RateLimitError: too many requests of this caller, or refused ones of this address.
        """
        if auth is Auth.NONE:
            exchange.body.restrict(OPEN_BODY_BYTES)
            limited_as = address_of(exchange)
        else:
            exchange.principal = await self.principal(exchange, auth)
            limited_as = exchange.principal.subject
        wait = self._by_principal.take(limited_as)
        if wait:
            raise RateLimitError(f"more than {self._rate:g} requests a second", retry_after=wait)

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

    async def _known(self, exchange: Exchange, auth: Auth) -> Principal:
        scheme, _, credential = (exchange.header(b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not credential:
            raise AuthenticationError("no bearer token was sent", code="token_missing")
        if auth is Auth.TOKEN:
            return await self._tokens.verify(credential)
        if auth is Auth.SESSION:
            return (await self._tokens.verify_session(credential)).principal
        found = await self._tokens.principal_of_psk(
            credential,
            exchange.header(envelope.PROJECT_HEADER.lower().encode()),
            exchange.header(envelope.ENVIRONMENT_HEADER.lower().encode()),
        )
        if found is None:
            raise AuthenticationError(
                "unknown token", code="token_unknown", hint="is DOMINUS_TOKEN this server's?"
            )
        return found
