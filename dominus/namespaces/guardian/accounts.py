"""dominus.auth.users, .clients and .nav_items: who logs in, and what they find their way by.

As in `rights`, `create` and `update` take any namespace as `self`: `auth.create_user` is `auth.users.create`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cached_property
from typing import Literal, cast

from dominus.contract.guardian import accounts as contract
from dominus.contract.guardian import entities
from dominus.contract.guardian.records import MAX_RECORDS, Records
from dominus.namespaces.base import Namespace
from dominus.namespaces.entity import EntityNamespace
from dominus.namespaces.guardian.hashing import hashed_password
from dominus.namespaces.link import LinkNamespace

__all__ = ["Clients", "Users"]

UserOrder = Literal["created_at", "updated_at", "username", "email"]


class Users(EntityNamespace[contract.User]):
    """People who log in."""

    _calls = contract.USERS

    @cached_property
    def roles(self) -> LinkNamespace[entities.Role]:
        """The roles of a user."""
        return LinkNamespace(self._caller, contract.USER_ROLES)

    @cached_property
    def scopes(self) -> LinkNamespace[entities.Scope]:
        """The scopes that a user has beside those of roles."""
        return LinkNamespace(self._caller, contract.USER_SCOPES)

    @cached_property
    def tenants(self) -> LinkNamespace[entities.Tenant]:
        """The tenants that a user belongs to."""
        return LinkNamespace(self._caller, contract.USER_TENANTS)

    @cached_property
    def subtypes(self) -> LinkNamespace[entities.Subtype]:
        """The kinds that a user is of."""
        return LinkNamespace(self._caller, contract.USER_SUBTYPES)

    async def create(
        self: Namespace,
        username: str,
        email: str,
        password: str,
        status: entities.Status = "active",
        *,
        timeout: float | None = None,
    ) -> contract.User:
        """Create a user. The password is hashed here, in a thread; what travels is its bcrypt hash.

        Args:
            username: unique, whatever its case; 1 to 100 characters.
            email: unique, whatever its case; an address alone.
            password: 1 to 72 bytes in UTF-8.
            status: `active`, or `inactive` or `suspended`, who cannot log in.
            timeout: seconds for the call, the hash (about 0.2 s) not counted; the client's without it.

        Raises:
            ConflictError: the name or the address is taken (code `already_exists`; `details` says which).
            ValidationError: the password is empty, too long for bcrypt, or holds a NUL.

        Example:
            ```python
            await dominus.auth.users.create("ada", "ada@example.com", "correct horse")
            await dominus.auth.create_user("alan", "alan@example.com", "battery staple")  # its flat name
            await dominus.auth.add_user(username="kay", email="kay@example.com", password="correct staple")
            ```
        """
        fields = {"username": username, "email": email, "status": status}
        password_hash = await hashed_password(password)
        return await self._ask(contract.USERS.create, timeout, **fields, password_hash=password_hash)

    async def list(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        status: entities.Status | None = None,
        order_by: UserOrder = "created_at",
        order_desc: bool = True,
        timeout: float | None = None,
    ) -> Records[contract.User]:
        """Return a page of users, the newest first, and the number of all that fit: `{"items", "total"}`.

        Args:
            limit: 1 to 1,000 users.
            offset: so many are left out before them, 0 or more.
            status: only those that are `active`, `inactive` or `suspended`; all without it.
            order_by: `created_at`, `updated_at`, `username` or `email`.
            order_desc: whether the last of that order comes first.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            page = await dominus.auth.users.list(limit=10, order_by="username", order_desc=False)
            names = [user["username"] for user in page["items"]]
            ```
        """
        fields = {"status": status, "order_by": order_by, "order_desc": order_desc}
        return await self._ask(contract.USERS.list, timeout, **fields, limit=limit, offset=offset)

    async def iterate(
        self,
        page_size: int = MAX_RECORDS,
        *,
        status: entities.Status | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[contract.User]:
        """Walk over all users that fit, the newest first; nothing is missed or repeated while others come and go.

        Args:
            page_size: read in one call, 1 to 1,000.
            status: only those that are `active`, `inactive` or `suspended`; all without it.
            timeout: seconds for each call; the client's without it.

        Example:
            ```python
            async for user in dominus.auth.users.iterate(status="suspended"):
                print(user["username"])
            ```
        """
        async for user in self._walk(page_size, timeout, status=status):
            yield user

    async def update(
        self: Namespace,
        user_id: str,
        username: str | None = None,
        email: str | None = None,
        status: entities.Status | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.User:
        """Change a user. None leaves a field as it is. Another address is not verified any more.

        Args:
            user_id: its `id`.
            username: another, not taken; 1 to 100 characters.
            email: another, not taken; an address alone.
            status: `active`, `inactive` or `suspended`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none of this id.
            ConflictError: the name or the address is taken (code `already_exists`).

        Example:
            ```python
            user = await dominus.auth.users.create("grace", "grace@example.com", "correct horse")
            await dominus.auth.users.update(user["id"], email="hopper@example.com")
            await dominus.auth.update_user(user["id"], status="suspended")  # its flat name
            ```
        """
        fields = {"user_id": user_id, "username": username, "email": email, "status": status}
        return await self._ask(contract.USERS.update, timeout, **fields)

    async def update_password(
        self: Namespace, user_id: str, password: str, *, timeout: float | None = None
    ) -> contract.PasswordUpdated:
        """Give a user a new password. It is hashed here, in a thread; what travels is its bcrypt hash.

        Args:
            user_id: its `id`.
            password: 1 to 72 bytes in UTF-8.
            timeout: seconds for the call, the hash (about 0.2 s) not counted; the client's without it.

        Raises:
            NotFoundError: there is no such user.
            ValidationError: the password is empty, too long for bcrypt, or holds a NUL.

        Example:
            ```python
            user = await dominus.auth.users.create("kurt", "kurt@example.com", "correct horse")
            await dominus.auth.users.update_password(user["id"], "battery staple")
            await dominus.auth.update_password(user["id"], "correct staple")  # its flat name
            ```
        """
        fields = {"user_id": user_id, "password_hash": await hashed_password(password)}
        return await self._ask(contract.UPDATE_PASSWORD, timeout, **fields)

    async def verify_password(
        self: Namespace, user_id: str, password: str, *, timeout: float | None = None
    ) -> bool:
        """Return whether a password is a user's. The password travels itself: only the server can compare it.

        Args:
            user_id: its `id`.
            password: what somebody gave.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such user.

        Example:
            ```python
            user = await dominus.auth.users.create("emmy", "emmy@example.com", "correct horse")
            assert await dominus.auth.users.verify_password(user["id"], "correct horse")
            assert not await dominus.auth.verify_password(user["id"], "battery staple")  # its flat name
            ```
        """
        answer = await self._ask(contract.VERIFY_PASSWORD, timeout, user_id=user_id, password=password)
        return answer["valid"]


class Clients(EntityNamespace[contract.Client]):
    """Programs that log in with a pre-shared key."""

    _calls = contract.CLIENTS

    @cached_property
    def tenants(self) -> LinkNamespace[entities.Tenant]:
        """The tenants that a client belongs to."""
        return LinkNamespace(self._caller, contract.CLIENT_TENANTS)

    @cached_property
    def roles(self) -> LinkNamespace[entities.Role]:
        """The roles of a client."""
        return LinkNamespace(self._caller, contract.CLIENT_ROLES)

    @cached_property
    def scopes(self) -> LinkNamespace[entities.Scope]:
        """The scopes that a client has beside those of roles."""
        return LinkNamespace(self._caller, contract.CLIENT_SCOPES)

    @cached_property
    def subtypes(self) -> LinkNamespace[entities.Subtype]:
        """The kinds that a client is of."""
        return LinkNamespace(self._caller, contract.CLIENT_SUBTYPES)

    async def create(
        self: Namespace, label: str, description: str | None = None, *, timeout: float | None = None
    ) -> contract.ClientWithPsk:
        """Create a client. Its key, `psk`, is shown in this answer and never again.

        Args:
            label: what people call it, 1 to 100 characters.
            description: up to 1,000 characters.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            importer = await dominus.auth.clients.create("Nightly import")
            psk = importer["psk"]
            await dominus.auth.create_client("Nightly export")  # its flat name
            ```
        """
        made = await self._ask(contract.CLIENTS.create, timeout, label=label, description=description)
        return cast("contract.ClientWithPsk", made)

    async def update(
        self: Namespace,
        client_id: str,
        label: str | None = None,
        description: str | None = None,
        status: entities.Status | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.Client:
        """Change a client. None leaves a field as it is.

        Args:
            client_id: its `id`.
            label: 1 to 100 characters.
            description: up to 1,000 characters; "" empties it.
            status: `active`, or `inactive` or `suspended`: its key opens nothing then.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none of this id.

        Example:
            ```python
            client = await dominus.auth.clients.create("Monthly report")
            await dominus.auth.clients.update(client["id"], label="Weekly report")
            await dominus.auth.update_client(client["id"], status="suspended")  # its flat name
            ```
        """
        fields = {"client_id": client_id, "label": label, "description": description, "status": status}
        return await self._ask(contract.CLIENTS.update, timeout, **fields)

    async def regenerate_psk(
        self: Namespace,
        client_id: str,
        *,
        grace_seconds: int = contract.DEFAULT_GRACE_SECONDS,
        timeout: float | None = None,
    ) -> contract.ClientWithPsk:
        """Give a client a new key, shown in this answer and never again. The one before it stays valid for a while.

        Tokens that were minted with a key live on for their 15 minutes.

        Args:
            client_id: its `id`.
            grace_seconds: how long keys from before stay valid; 0 ends them at once, at most 30 days.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such client.

        Example:
            ```python
            client = await dominus.auth.clients.create("Daily backup")
            renewed = await dominus.auth.clients.regenerate_psk(client["id"], grace_seconds=0)
            renewed = await dominus.auth.regenerate_psk(client["id"])  # its flat name
            ```
        """
        fields = {"client_id": client_id, "grace_seconds": grace_seconds}
        return await self._ask(contract.REGENERATE_PSK, timeout, **fields)

    async def verify_psk(self: Namespace, client_id: str, psk: str, *, timeout: float | None = None) -> bool:
        """Return whether a key is a client's and has not ended.

        Args:
            client_id: its `id`.
            psk: what somebody gave.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such client.

        Example:
            ```python
            client = await dominus.auth.clients.create("Hourly sync")
            assert await dominus.auth.clients.verify_psk(client["id"], client["psk"])
            assert not await dominus.auth.verify_psk(client["id"], "another")  # its flat name
            ```
        """
        answer = await self._ask(contract.VERIFY_PSK, timeout, client_id=client_id, psk=psk)
        return answer["valid"]
