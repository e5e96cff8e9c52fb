"""Tokens: RS256 JWTs signed with keys from PostgreSQL, verified once and then known by their digest."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import jwt
from jwt.algorithms import RSAAlgorithm
from pydantic_core import from_json

from dominus.contract.sessions import AUDIENCE, scope_of
from dominus.contract.tokens import ISSUER, LEEWAY_SECONDS, MAX_TOKEN_LENGTH, header_fault
from dominus.errors import AuthenticationError, ValidationError
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.identity.psks import digest_of
from dominus.orchestrator.identity.sessions import Revocations
from dominus.orchestrator.identity.signing_keys import SigningKeys

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Pool
    from dominus.orchestrator.identity.vault import Vault

__all__ = ["ISSUER", "MAX_TOKEN_LENGTH", "SessionGrant", "Tokens"]

T = TypeVar("T")

_SESSION = "session"
_MAX_VERIFIED = 10_000


@dataclass(frozen=True, slots=True)
class SessionGrant:
    """What a session token opens."""

    principal: Principal
    """Whose it is; its one scope is `gateway:<target>`."""
    target: str
    expires_at: float
    """Unix time; new connections are refused from then on."""


class Tokens:
    """Mints and verifies tokens. `start` it before use, `rotate_if_due` every hour."""

    def __init__(
        self,
        pool: Pool,
        vault: Vault,
        *,
        lifetime_seconds: int = 900,
        clock: Callable[[], float] = time.time,
        revocations: Revocations | None = None,
    ) -> None:
        self.lifetime_seconds = lifetime_seconds
        self._revocations = revocations
        self._clock = clock
        self._keys = SigningKeys(pool, vault, clock)
        self._verified: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._grants: OrderedDict[bytes, tuple[SessionGrant, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"Tokens(kids={[key.kid for key in self._keys.living()]})"

    async def start(self) -> None:
        """Read the signing keys; make the first one where there is none."""
        await self._keys.start()

    async def rotate_if_due(self, days: float) -> bool:
        """Sign with a new key when the newest is older; what the old one signed verifies for another day.

        Returns whether this replica made it. Also learns of keys that other replicas made.
        """
        return await self._keys.rotate_if_due(days)

    def mint(self, principal: Principal, lifetime_seconds: int | None = None) -> str:
        """Return a token that says who `principal` is, by default for `lifetime_seconds` of the settings."""
        return self._signed(principal, lifetime_seconds or self.lifetime_seconds, {})

    def mint_login(
        self, principal: Principal, lifetime_seconds: int, more: Mapping[str, str | list[str] | None]
    ) -> str:
        """Return a token of a login: that of a session, with claims that say more of its user."""
        return self._signed(principal, lifetime_seconds, more)

    def session_seconds(self, principal: Principal, asked_seconds: int) -> int:
        """Return how long a session token may live that `principal` asks for: no longer than its own token.

        Raises:
            AuthenticationError: that one ends right now.
        """
        # The new token begins with this second, which has begun already.
        left = min(asked_seconds, principal.expires_at - int(self._clock()))
        if left < 1:
            raise AuthenticationError("the token has expired", code="token_expired", hint="mint a new one")
        return int(left)

    def mint_session(self, principal: Principal, target: str, lifetime_seconds: int) -> str:
        """Return a token that opens one target of the gateway to `principal`, and nothing over HTTP but its calls.

        Whether the principal may have it is the caller's to check; it ends with the principal's own token.
        """
        lifetime_seconds = self.session_seconds(principal, lifetime_seconds)
        session = replace(principal, use=_SESSION, scopes=frozenset({scope_of(target)}))
        return self._signed(session, lifetime_seconds, {"aud": AUDIENCE, "target": target})

    def _signed(self, principal: Principal, lifetime_seconds: int, more: Mapping[str, Any]) -> str:
        key = self._keys.signing()
        issued_at = int(self._clock())
        claims = {
            "iss": ISSUER,
            "sub": principal.subject,
            "iat": issued_at,
            "exp": issued_at + lifetime_seconds,
            "jti": secrets.token_hex(16),
            "use": principal.use,
            "scopes": sorted(principal.scopes),
            "project": principal.project,
            "environment": principal.environment,
            **({"sid": principal.session_id} if principal.session_id is not None else {}),
            **({"tenant_id": principal.tenant_id} if principal.tenant_id is not None else {}),
            **more,
        }
        token = jwt.encode(claims, key.private, algorithm="RS256", headers={"kid": key.kid})
        if len(token) > MAX_TOKEN_LENGTH:
            raise ValidationError(
                f"the token would have {len(token)} characters, {MAX_TOKEN_LENGTH} are allowed",
                hint="give it fewer scopes",
            )
        return token

    async def verify(self, token: str) -> Principal:
        """Return whom a token speaks for.

        Raises:
            AuthenticationError: it is malformed, expired, not ours, or not for this use; or its session is over.
        """
        principal = await self._judged(token, self._verified, _principal_of)
        if principal.session_id is not None:
            await self._check_session(principal)
        return principal

    async def verify_session(self, token: str) -> SessionGrant:
        """Return what a session token opens, and to whom.

        Raises:
            AuthenticationError: it is malformed, expired, not ours, or no session token.
        """
        grant = await self._judged(token, self._grants, _grant_of)
        if grant.principal.session_id is not None:
            await self._check_session(grant.principal)
        return grant

    async def _check_session(self, principal: Principal) -> None:
        if self._revocations is not None and await self._revocations.has(principal):
            raise AuthenticationError(
                "this login is over: it was ended, or its user may not log in any more",
                code="session_revoked",
                hint="log in again",
            )

    async def _judged(
        self,
        token: str,
        known: OrderedDict[bytes, tuple[T, float]],
        judge: Callable[[dict[str, Any], float], tuple[T, float]],
    ) -> T:
        if len(token) > MAX_TOKEN_LENGTH:
            raise _refused("it is too long to be one")
        digest = digest_of(token)
        found = known.get(digest)
        now = self._clock()
        if found is not None and now < found[1]:
            known.move_to_end(digest)
            return found[0]
        judged = judge(await self._claims(token), now)
        known[digest] = judged
        if len(known) > _MAX_VERIFIED:
            known.popitem(last=False)
        return judged[0]

    def jwks(self) -> dict[str, Any]:
        """Return the public keys that verify tokens of today, the signing one first (RFC 7517)."""
        keys: list[dict[str, Any]] = []
        for key in self._keys.living():
            numbers = RSAAlgorithm.to_jwk(key.public, as_dict=True)
            keys.append(
                {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": key.kid}
                | {name: numbers[name] for name in ("n", "e")}
            )
        return {"keys": keys}

    def public_pem(self) -> str:
        """Return the public key of new tokens."""
        return self._keys.signing().pem()

    async def _claims(self, token: str) -> dict[str, Any]:
        if token.count(".") != 2:
            raise _refused("it does not have three parts")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            raise _refused("its header cannot be read") from None
        if fault := header_fault(header):
            raise _refused(fault)
        key = await self._keys.named(header.get("kid"))
        if key is None:
            raise _refused("its key is unknown or retired")
        try:
            # The signature alone: times are judged by our clock, not by PyJWT's.
            claims = from_json(
                jwt.PyJWS().decode(token, key.public, algorithms=["RS256"]), allow_inf_nan=False
            )
        except (jwt.PyJWTError, ValueError):
            raise _refused("its signature is wrong") from None
        if not isinstance(claims, dict):
            raise _refused("it holds no claims")
        return cast("dict[str, Any]", claims)


def _principal_of(claims: dict[str, Any], now: float) -> tuple[Principal, float]:
    """Judge the claims of a token whose signature is right; return whom it speaks for, and until when."""
    if "aud" in claims:
        raise _refused("it is for another audience")
    if claims.get("use") not in ("service", "user"):
        raise _refused("it is for another use")
    return _read_claims(claims, now)


def _grant_of(claims: dict[str, Any], now: float) -> tuple[SessionGrant, float]:
    """Judge the claims of a session token, whose audience is the gateway alone."""
    if claims.get("aud") != AUDIENCE or claims.get("use") != _SESSION:
        raise _refused("it is no session token")
    target = claims.get("target")
    if not isinstance(target, str):
        raise _refused("a claim is missing")
    principal, expires_at = _read_claims(claims, now)
    return SessionGrant(replace(principal, target=target), target, expires_at), expires_at


def _read_claims(claims: dict[str, Any], now: float) -> tuple[Principal, float]:
    if claims.get("iss") != ISSUER:
        raise _refused("it was issued elsewhere")
    try:
        issued_at, expires_at = float(claims["iat"]), float(claims["exp"])
        begins_at = float(claims.get("nbf", issued_at))
        principal = Principal(
            claims["sub"],
            claims["use"],
            frozenset(claims["scopes"]),
            claims["project"],
            claims["environment"],
            expires_at=expires_at,
            session_id=_text_of(claims, "sid"),
            tenant_id=_text_of(claims, "tenant_id"),
        )
    except (KeyError, TypeError, ValueError):
        raise _refused("a claim is missing") from None
    if now >= expires_at:
        raise AuthenticationError("the token has expired", code="token_expired", hint="mint a new one")
    # Replicas' clocks differ; the published client allows no leeway, so that iat is rounded down besides.
    if issued_at > now + LEEWAY_SECONDS:
        raise _refused("it was issued in the future")
    if begins_at > now + LEEWAY_SECONDS:
        raise _refused("it is not valid yet")
    return principal, expires_at


def _text_of(claims: dict[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError(name)
    return value


def _refused(why: str) -> AuthenticationError:
    return AuthenticationError(f"the token is refused: {why}", code="token_invalid")
