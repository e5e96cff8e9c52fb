"""Tokens, verified here with the server's public keys; one that was verified is known again by its digest."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import jwt
from pydantic_core import from_json

from dominus.contract.auth import KEY_SET, KeySet
from dominus.contract.tokens import ISSUER, LEEWAY_SECONDS, MAX_TOKEN_LENGTH, USES, header_fault
from dominus.errors import AuthenticationError, DominusTimeoutError, ServiceError
from dominus.transport.deadline import block_deadline, check_timeout
from dominus.transport.flights import Flights

if TYPE_CHECKING:
    from dominus.transport.shared import Shared

__all__ = ["Verifier", "judge"]

REFETCH_SECONDS = 5.0
"""An unknown key id is looked up again at most this often."""
REFRESH_SECONDS = 300.0
"""Known keys are fetched again in the background when they are older: one that was withdrawn is forgotten."""
MAX_KNOWN = 5_000
"""Verified tokens of a generation; there are two."""
_LEAST_BITS = 2048
_JWS = jwt.PyJWS()


class Verifier:
    """Verifies tokens for a client and its views, in all loops.

    Nothing is locked, since the child of a fork could inherit the lock held: what two threads do in the same instant
    leaves good keys and tokens in any order.
    """

    def __init__(self, shared: Shared, now: Callable[[], float] = time.time) -> None:
        self.shared = shared
        self._now = now
        self._keys: Mapping[str, Any] = {}
        self._fetched_at = -math.inf
        self._is_ours = False
        # By digest, the claims as JSON: each caller gets claims of its own, and changes nobody else's.
        self._young: dict[bytes, tuple[bytes, float]] = {}
        self._old: dict[bytes, tuple[bytes, float]] = {}
        self._flights: Flights[None, None] = Flights()

    async def verify(
        self, token: str, fetch: Callable[[], Awaitable[KeySet]], timeout: float | None
    ) -> dict[str, Any]:
        """Return the claims of a token; `fetch` asks the server for its keys.

        Raises:
            AuthenticationError: it is not this server's, or not for now.
            DominusError: the keys could not be fetched.
        """
        if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _malformed()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = self._young.get(digest) or self._old.get(digest)
        if found is not None and self._now() < found[1]:
            self._refresh(fetch)
            self._young[digest] = found
            return from_json(found[0])
        key = await self._key(_key_id(token), fetch, timeout)
        payload = _payload(token, key)
        claims = _claims(payload)
        until = judge(claims, self._now(), is_ours=self._is_ours)
        if len(self._young) >= MAX_KNOWN:
            self._old, self._young = self._young, {}
        self._young[digest] = (payload, until)
        return claims

    async def prepare(self, fetch: Callable[[], Awaitable[KeySet]], timeout: float | None) -> None:
        """Fetch the keys now, if there are none yet."""
        if not self._keys:
            await self._fetched(fetch, timeout)

    async def _key(self, key_id: str, fetch: Callable[[], Awaitable[KeySet]], timeout: float | None) -> Any:
        key = self._keys.get(key_id)
        if key is not None:
            self._refresh(fetch)
            return key
        if self._age() >= REFETCH_SECONDS:
            await self._fetched(fetch, timeout)
            key = self._keys.get(key_id)
        if key is None:
            raise _refused("it is signed by an unknown key")
        return key

    def _age(self) -> float:
        return self.shared.clock.monotonic() - self._fetched_at

    def _refresh(self, fetch: Callable[[], Awaitable[KeySet]]) -> None:
        if self._age() < REFRESH_SECONDS or self._flights.is_under_way(None):
            return
        # Whether or not it succeeds, the next is due only then: the keys that are known go on serving.
        self._fetched_at = self.shared.clock.monotonic()
        self._flights.start(None, partial(self._take, fetch))

    async def _fetched(self, fetch: Callable[[], Awaitable[KeySet]], timeout: float | None) -> None:
        """Fetch the keys, once however many wait; each waits no longer than its own deadline."""
        limits = (None if timeout is None else check_timeout(timeout), block_deadline())
        limit = min((each for each in limits if each is not None), default=None)
        try:
            await self._flights.join(None, partial(self._take, fetch), limit)
        except DominusTimeoutError:
            raise
        except TimeoutError:
            raise DominusTimeoutError(
                f"the keys that verify tokens did not come within {limit:.3g} s", endpoint=KEY_SET.name
            ) from None

    async def _take(self, fetch: Callable[[], Awaitable[KeySet]]) -> None:
        answer = await fetch()
        try:
            listed = [(str(key["kid"]), key) for key in answer["keys"]]
        except (KeyError, TypeError):
            raise ServiceError(
                "the answer is no key set", code="not_dominus", endpoint=KEY_SET.name, retryable=False
            ) from None
        keys = {key_id: key for key_id, jwk in listed if (key := _public_key(jwk)) is not None}
        self._is_ours = self.shared.speaks_json
        if keys.keys() != self._keys.keys():
            # What a withdrawn key signed is no longer known.
            self._young, self._old = {}, {}
        self._keys, self._fetched_at = keys, self.shared.clock.monotonic()


def judge(claims: Mapping[str, Any], now: float, *, is_ours: bool) -> float:
    """Judge the claims of a token whose signature is right; return until when (Unix time) they hold.

    Args:
        claims: as they were signed.
        now: Unix time.
        is_ours: the server is an orchestrator of this project, whose tokens name their issuer and use.

    Raises:
        AuthenticationError: they are not for us, or not for now.
    """
    if "aud" in claims:
        raise _refused("it is for another audience")
    if is_ours and claims.get("iss") != ISSUER:
        raise _refused("it was issued elsewhere")
    if is_ours and claims.get("use") not in USES:
        raise _refused("it is for another use")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise _refused("it names no subject")
    until = _moment(claims, "exp")
    if until is None:
        raise _refused("it has no end")
    for name in ("iat", "nbf"):
        begins = _moment(claims, name)
        if begins is not None and begins > now + LEEWAY_SECONDS:
            raise _refused("it is not valid yet")
    if now >= until + LEEWAY_SECONDS:
        raise AuthenticationError("the token has expired", code="token_expired")
    return until + LEEWAY_SECONDS


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _refused(f"its {name} is no time")
    return float(value)


def _key_id(token: str) -> str:
    if token.count(".") != 2:
        raise _malformed()
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _malformed() from None
    if fault := header_fault(header):
        raise _refused(fault)
    key_id = header.get("kid")
    if not isinstance(key_id, str):
        raise _refused("it is signed by an unknown key")
    return key_id


def _payload(token: str, key: Any) -> bytes:
    try:
        return _JWS.decode(token, key, algorithms=["RS256"])
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _refused("its signature is wrong") from None


def _claims(payload: bytes) -> dict[str, Any]:
    try:
        claims = from_json(payload, allow_inf_nan=False)
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise _refused("it holds no claims")
    return cast("dict[str, Any]", claims)


def _public_key(jwk: dict[str, Any]) -> Any:
    """Return the key of a JWK; None for what signs no tokens of this kind."""
    if jwk.get("kty") != "RSA" or jwk.get("use", "sig") != "sig" or jwk.get("alg", "RS256") != "RS256":
        return None
    try:
        key: Any = jwt.PyJWK(jwk, "RS256").key
    except (jwt.PyJWTError, ValueError):
        return None
    return key if key.key_size >= _LEAST_BITS else None


def _malformed() -> AuthenticationError:
    return AuthenticationError("the token is malformed", code="token_malformed")


def _refused(why: str) -> AuthenticationError:
    return AuthenticationError(f"the token is refused: {why}", code="token_invalid")
