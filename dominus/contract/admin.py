"""admin: the records that whoever administers a project begins with."""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import TypedDict

from dominus.contract.operation import Service
from dominus.contract.request import Empty, Example, Request


class ResetRequest(Request):
    """`confirm` says that taking the role from everybody is meant."""

    example: ClassVar[Example] = {"confirm": True}

    confirm: bool = False


class Seeded(TypedDict):
    """How many records of each kind were missing, and are there now."""

    success: bool
    message: str
    seeded_entities: dict[str, int]


class AdminReset(TypedDict):
    """What was done, in words."""

    success: bool
    message: str
    operations: list[str]


admin = Service("admin", "/api/admin")
RESEED = admin.write(
    "reseed_admin_category",
    Empty,
    Seeded,
    "Make what is missing of the category, tenant, role and scopes of administrators.",
    path="reseed",
    scope="admin:admin",
)
RESET = admin.write(
    "reset_admin_category",
    ResetRequest,
    AdminReset,
    "Take the role of administrators from everybody, and make it anew.",
    path="reset",
    scope="admin:admin",
    errors=("confirm_required",),
)
