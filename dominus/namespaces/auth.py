"""dominus.auth: tokens for users and their verification; roles and scopes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jwt

from dominus.contract import auth as contract
from dominus.contract.request import Empty
from dominus.errors import AuthenticationError, ServiceError
from dominus.namespaces.base import as_list, unwrap
from dominus.namespaces.guardian.account_names import AccountNames

if TYPE_CHECKING:
    from dominus.caller import Caller
    from dominus.transport.shared import Shared

__all__ = ["Auth"]

LEEWAY_SECONDS = 30
REFETCH_SECONDS = 5.0
"""An unknown key id is looked up again at most this often."""


class Auth(AccountNames):
    """Mints tokens with the PSK, verifies them with the server's public keys; keeps who may do what."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._shared: Shared | None = None

    async def token(self, *, timeout: float | None = None) -> contract.MintedToken:
        """Mint a service token for another program: `{"access_token", "token_type", "expires_in"}`.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            minted = await dominus.auth.token()
            headers = {"Authorization": f"Bearer {minted['access_token']}"}
            ```
        """
        return _minted(await self._call(contract.MINT, contract.MintRequest(), timeout=timeout))

    async def mint_jwt(
        self,
        user_id: str,
        scope: Sequence[str] | None = None,
        expires_in: int = 900,
        system: str = "user",
        *,
        timeout: float | None = None,
    ) -> contract.MintedToken:
        """Mint a token for a user: `{"access_token", "token_type", "expires_in"}`.

        Args:
            user_id: becomes the token's subject; 1 to 256 characters.
            scope: scopes that this client has itself, such as `["db:read"]`; none without it.
            expires_in: seconds, 60 to 86,400.
            system: kept in the token; 1 to 64 characters.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: a scope that this client does not have.

        Example:
            ```python
            minted = await dominus.auth.mint_jwt("ada", scope=["redis:read"], expires_in=900)
            ada = dominus.as_user(minted["access_token"])
            print(await ada.redis.get("greeting"))
            ```
        """
        params = contract.MintForParams(
            user_id=user_id,
            scope=None if scope is None else as_list(scope, "scope"),
            expires_in=expires_in,
            system=system,
        )
        answer = await self._call(contract.MINT_FOR, contract.MintForRequest(params=params), timeout=timeout)
        return _minted(answer)

    async def get_public_key(self, *, timeout: float | None = None) -> str:
        """Return the current public key as PEM.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            pem = await dominus.auth.get_public_key()
            assert pem.startswith("-----BEGIN PUBLIC KEY-----")
            ```
        """
        answer = await self._call(contract.PUBLIC_KEY, contract.PublicKeyRequest(), timeout=timeout)
        return answer["public_key"]

    async def get_jwks(self, *, timeout: float | None = None) -> contract.KeySet:
        """Return the JWK set (RFC 7517) that verifies this server's tokens.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            for key in (await dominus.auth.get_jwks())["keys"]:
                print(key["kid"], key["alg"])
            ```
        """
        return await self._call(contract.KEY_SET, Empty(), timeout=timeout)

    async def validate_jwt(self, token: str, *, timeout: float | None = None) -> dict[str, Any]:
        """Verify a token here, with the server's public keys, and return its claims.

        The keys are fetched once, and again when a token names an unknown one.

        Args:
            token: a JWT, without `Bearer`. Service tokens are valid, too: a login checks `claims["use"] == "user"`.
            timeout: seconds for fetching the keys; the client's without it.

        Raises:
            AuthenticationError: it is malformed, expired, or not signed by this server.

        Example:
            ```python
            minted = await dominus.auth.mint_jwt("ada", scope=["db:read"])
            claims = await dominus.auth.validate_jwt(minted["access_token"])
            assert (claims["sub"], claims["use"], claims["scopes"]) == ("ada", "user", ["db:read"])
            ```
        """
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise AuthenticationError("the token is malformed", code="token_malformed") from None
        key = await self._key(str(header.get("kid", "")), timeout)
        try:
            return await asyncio.to_thread(
                jwt.decode,
                token,
                key,
                algorithms=["RS256"],
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise AuthenticationError("the token has expired", code="token_expired") from None
        except jwt.PyJWTError as error:
            raise AuthenticationError(f"the token is not valid: {error}", code="token_invalid") from None

    async def _key(self, key_id: str, timeout: float | None) -> jwt.PyJWK:
        shared = self._caller.shared
        if shared is not self._shared:
            # A closed client begins anew, perhaps with another server.
            self._shared, self._keys, self._fetched_at = shared, {}, None
        now = shared.clock.monotonic()
        is_due = self._fetched_at is None or now - self._fetched_at >= REFETCH_SECONDS
        if key_id not in self._keys and is_due:
            self._fetched_at = now
            answer = await self.get_jwks(timeout=timeout)
            self._keys = unwrap(
                contract.KEY_SET,
                answer,
                lambda data: {key["kid"]: jwt.PyJWK(key, "RS256") for key in data["keys"]},
            )
        if key_id not in self._keys:
            raise AuthenticationError("the token is signed by an unknown key", code="token_invalid")
        return self._keys[key_id]


def _minted(answer: contract.MintAnswer) -> contract.MintedToken:
    # Servers of the published client may call it `token`; users know one name for it.
    token = answer.get("access_token") or answer.get("token")
    if not token:
        raise ServiceError("the mint gave no token", code="not_dominus", endpoint="auth.mint")
    minted: contract.MintedToken = {"access_token": token}
    if "token_type" in answer:
        minted["token_type"] = answer["token_type"]
    if "expires_in" in answer:
        minted["expires_in"] = answer["expires_in"]
    return minted
