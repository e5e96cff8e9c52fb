"""secure: the audit trail of secure tables. Their rows travel by the operations of db, with a reason."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, ClassVar, Self

from pydantic import AwareDatetime, Field, StringConstraints, model_validator
from typing_extensions import TypedDict

from dominus.contract.operation import Service
from dominus.contract.request import Example, Identifier, Omit, Request

__all__ = [
    "AUDIT",
    "MAX_AUDIT",
    "VERIFY",
    "AuditEntry",
    "AuditPage",
    "AuditRequest",
    "Verified",
    "VerifyRequest",
    "secure",
]

MAX_AUDIT = 1000
"""Entries of a page."""
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]


class AuditEntry(TypedDict):
    """One access: who, why, what, when.

    `ids` are the primary keys of the rows touched, the first 10,000 of them and 256 KB; None for a table without one.
    `outcome` is `ok`, or the code of the error with which it was refused or failed.
    """

    number: int
    at: str
    subject: str
    actor: str
    reason: str
    operation: str
    schema: str
    table: str
    filters: dict[str, Any] | None
    row_count: int
    ids: list[Any] | None
    request_id: str
    outcome: str


class AuditPage(TypedDict):
    """Newest first; `cursor` continues, None at the end."""

    items: list[AuditEntry]
    cursor: str | None


class Verified(TypedDict):
    """Whether the trail is whole. `count` and `hash` are worth keeping elsewhere: they can only grow."""

    valid: bool
    count: int
    hash: str
    broken_at: int | None
    reason: str | None


class AuditRequest(Request):
    """Which accesses; all of the project and environment without any."""

    example: ClassVar[Example] = {"limit": 10}

    table: Omit[Identifier]
    schema_: Annotated[Omit[Identifier], Field(alias="schema")] = None
    actor: Omit[Text]
    subject: Omit[Text]
    operation: Omit[Text]
    outcome: Omit[Text]
    since: Omit[AwareDatetime]
    until: Omit[AwareDatetime]
    limit: Annotated[int, Field(ge=1, le=MAX_AUDIT)] = 100
    cursor: Omit[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")]]


class VerifyRequest(Request):
    """Without any, from the first entry on; else from the one with which an earlier proof ended."""

    example: ClassVar[Example] = {}

    count: Annotated[int, Field(ge=0, lt=1 << 62)] = 0
    hash: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""

    @model_validator(mode="after")
    def _is_one_entry(self) -> Self:
        if bool(self.count) != bool(self.hash):
            raise ValueError("count and hash are those of an earlier proof, both")
        return self


def moment(value: dt.datetime) -> str:
    """Write a time as an entry shows it, and as its hash has it."""
    return value.astimezone(dt.UTC).isoformat(timespec="microseconds")


secure = Service("secure", "/api/scribe")
AUDIT = secure.read(
    "audit",
    AuditRequest,
    AuditPage,
    "List accesses to secure tables, newest first.",
    path="audit",
    method="GET",
)
VERIFY = secure.read(
    "verify",
    VerifyRequest,
    Verified,
    "Prove that the audit trail is whole.",
    path="audit/verify",
    method="GET",
)
