"""dominus.auth: tokens for users and their verification; roles and scopes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dominus.contract import auth as contract
from dominus.contract.request import Empty
from dominus.errors import ServiceError
from dominus.namespaces.base import as_list
from dominus.namespaces.guardian.account_names import AccountNames
from dominus.transport.verifier import Verifier

__all__ = ["Auth"]


class Auth(AccountNames):
    """Mints tokens with the PSK, verifies them with the server's public keys; keeps who may do what."""

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

        The keys are fetched once, and again when a token names an unknown one; a token that was verified is known
        until it ends. Nobody is asked whether its session was revoked: the server knows, at every call that is sent
        with the token.

        Args:
            token: a JWT, without `Bearer`. Service tokens are valid, too: a login checks `claims["use"] == "user"`.
            timeout: seconds for fetching the keys; the client's without it.

        Raises:
            AuthenticationError: it is malformed, expired, not valid yet, or not signed by this server.
            ServiceError: the keys could not be fetched; likewise DominusConnectionError and DominusTimeoutError.

        Example:
            ```python
            minted = await dominus.auth.mint_jwt("ada", scope=["db:read"])
            claims = await dominus.auth.validate_jwt(minted["access_token"])
            assert (claims["sub"], claims["use"], claims["scopes"]) == ("ada", "user", ["db:read"])
            ```
        """
        return await self._verifier().verify(token, self.get_jwks, timeout)

    async def fetch_keys(self, *, timeout: float | None = None) -> None:
        """Fetch the keys that `validate_jwt` needs, unless they are there: its first call then asks nobody.

        Args:
            timeout: seconds for fetching the keys; the client's without it.

        Example:
            ```python
            await dominus.auth.fetch_keys()  # at the start of a program, before it takes requests
            ```
        """
        await self._verifier().prepare(self.get_jwks, timeout)

    def _verifier(self) -> Verifier:
        core = self._caller.core
        found, shared = core.verifier, core.shared
        if found is None or found.shared is not shared:
            # A closed client begins anew, perhaps with another server.
            found = core.verifier = Verifier(shared)
        return found


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
