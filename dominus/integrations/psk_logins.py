"""Pre-shared keys of clients, verified by a login at the portal that is good for some seconds."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import Any

from typing_extensions import TypedDict

from dominus.caller import Caller
from dominus.contract.operation import Operation
from dominus.contract.portal import LOGIN_CLIENT, LoginClientRequest
from dominus.errors import AuthenticationError, ServiceError
from dominus.transport.flights import Flights
from dominus.transport.shared import Shared

__all__ = ["KNOWN_SECONDS", "PskLogins"]

KNOWN_SECONDS = 5.0
"""A key that was withdrawn opens nothing here any more after this time."""
MAX_KNOWN = 1_000
MAX_PSK_LENGTH = 512


class _Token(TypedDict):
    access_token: str


# What is used of the answer: other servers of the published interface give less than ours.
_LOGIN: Operation[LoginClientRequest, Any] = replace(LOGIN_CLIENT, result=_Token)


class PskLogins:
    """Logs clients in, once in some seconds however often they call."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._shared: Shared | None = None
        self._known: dict[bytes, tuple[str, float]] = {}
        self._flights: Flights[bytes, str] = Flights()

    async def token(self, psk: str) -> str:
        """Return the token of the client that a key belongs to.

        Raises:
            AuthenticationError: there is no such key.
        """
        if len(psk) > MAX_PSK_LENGTH:
            raise AuthenticationError("the pre-shared key is not known", code="token_invalid")
        if self._caller.shared is not self._shared:
            # A closed client begins anew, perhaps with another server.
            self._shared, self._known = self._caller.shared, {}
        digest = hashlib.sha256(psk.encode("utf-8", "surrogatepass")).digest()
        found = self._known.get(digest)
        if found is not None and self._now() < found[1]:
            return found[0]
        return await self._flights.join(digest, partial(self._log_in, psk, digest), None)

    async def _log_in(self, psk: str, digest: bytes) -> str:
        token = (await self._caller.send(_LOGIN, _LOGIN.request(psk=psk, tenant_id=None)))["access_token"]
        if not isinstance(token, str):
            raise ServiceError("the login gave no token", code="not_dominus", endpoint=LOGIN_CLIENT.name)
        if len(self._known) >= MAX_KNOWN:
            self._known = {}
        self._known[digest] = (token, self._now() + KNOWN_SECONDS)
        return token

    def _now(self) -> float:
        return self._caller.core.clock.monotonic()
