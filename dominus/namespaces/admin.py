"""dominus.admin: the records that whoever administers a project begins with."""

from __future__ import annotations

from dominus.contract import admin as contract
from dominus.contract.request import Empty
from dominus.namespaces.base import Namespace

__all__ = ["Admin"]


class Admin(Namespace):
    """Seeds what administrators need. Both calls take the scope `admin:admin`."""

    async def reseed_admin_category(self, *, timeout: float | None = None) -> contract.Seeded:
        """Make what is missing of these, and leave alone what is there, so that it may be called at any time.

        A scope for each that the server's operations ask for; the tenant category `admin`, and in it a tenant `admin`;
        the role `admin`, which has all these scopes in tenants of that category.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the caller lacks `admin:admin`.

        Example:
            ```python
            seeded = await dominus.admin.reseed_admin_category()
            print(seeded["seeded_entities"])
            ```
        """
        return await self._call(contract.RESEED, Empty(), timeout=timeout)

    async def reset_admin_category(
        self, *, confirm: bool = False, timeout: float | None = None
    ) -> contract.AdminReset:
        """Delete the role `admin`, which takes it from everybody, and make it anew as `reseed_admin_category` does.

        Args:
            confirm: must be true: whoever administers by this role cannot go on.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: `confirm` is not true (code `confirm_required`).
            AuthorizationError: the caller lacks `admin:admin`.

        Example:
            ```python
            done = await dominus.admin.reset_admin_category(confirm=True)
            print(done["operations"])
            ```
        """
        return await self._call(contract.RESET, contract.ResetRequest(confirm=confirm), timeout=timeout)
