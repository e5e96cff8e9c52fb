"""Links of mails: tokens that are good once, and the mails that carry them, in one transaction.

Whether an address has a user is told by no answer. For one that has none the same work is done and taken back, and an
answer comes no sooner than EVEN_SECONDS, whatever it took.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dominus.contract.courier import SendRequest
from dominus.errors import ServiceError, ValidationError
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.services.courier.sending import accept
from dominus.orchestrator.services.portal.registry import digest_of, new_token, place_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record

__all__ = [
    "EVEN_SECONDS",
    "Link",
    "answered_evenly",
    "consume",
    "find",
    "mail_link",
    "may_mail",
    "no_link",
    "rehearsed",
]

EVEN_SECONDS = 0.25
MAX_MAILS_AN_HOUR = 5
"""To one address: nobody's inbox is filled by others."""
_LOCAL_URL, _LOCAL_SENDER = "http://localhost:3000", "no-reply@localhost.localdomain"


@dataclass(frozen=True, slots=True)
class Link:
    """A kind of link: where it leads, how long it is good, which template carries it."""

    kind: str
    path: str
    template: str
    hours: int


RESET = Link("reset", "/reset-password", "password-reset", 1)
VERIFICATION = Link("verification", "/verify-email", "email-verification", 24)
INVITATION = Link("invitation", "/accept-invitation", "invitation", 7 * 24)
NOTICE = Link("notice", "/login", "registration-notice", 1)

_COUNT = """
SELECT count(*)
FROM dominus.one_time_tokens
WHERE project = $1 AND environment = $2 AND email = lower($3) AND created_at > now() - interval '1 hour'
"""
# An older link of the same kind is good no more: of several mails the last one counts.
_REPLACE = """
UPDATE dominus.one_time_tokens
SET used_at = now()
WHERE project = $1 AND environment = $2 AND user_id = $3 AND kind = $4 AND used_at IS NULL
"""
_ADD = """
INSERT INTO dominus.one_time_tokens
  (project, environment, digest, kind, user_id, email, tenant_id, role_ids, expires_at)
VALUES ($1, $2, $3, $4, $5, lower($6), $7, $8::uuid[], now() + make_interval(hours => $9))
RETURNING id, expires_at
"""
_FIND = """
SELECT id, user_id, email, tenant_id, role_ids
FROM dominus.one_time_tokens
WHERE project = $1 AND environment = $2 AND digest = $3 AND kind = $4 AND used_at IS NULL AND expires_at > now()
"""
_CONSUME = """
UPDATE dominus.one_time_tokens
SET used_at = now()
WHERE project = $1 AND environment = $2 AND digest = $3 AND kind = $4 AND used_at IS NULL AND expires_at > now()
RETURNING id, user_id, email, tenant_id, role_ids
"""


async def may_mail(ctx: Context, connection: Connection, email: str) -> bool:
    """Tell whether an address may get one more mail now."""
    return await connection.fetchval(_COUNT, *place_of(ctx), email) < MAX_MAILS_AN_HOUR


async def mail_link(
    ctx: Context,
    connection: Connection,
    link: Link,
    email: str,
    model: dict[str, Any],
    *,
    user_id: str | None = None,
    tenant_id: str | None = None,
    role_ids: Sequence[str] = (),
) -> Record:
    """Put a mail with a new link into the outbox; return the link's id and when it ends.

    Raises:
        ServiceError: this server does not know where its links lead.
        DominusError: the template does not fit, or mails may not be from us.
    """
    settings = ctx.resources.settings
    is_local = settings.courier_backend == "outbox"
    url = settings.portal_url or (_LOCAL_URL if is_local else None)
    sender = settings.portal_sender or (_LOCAL_SENDER if is_local else None)
    if url is None or sender is None:
        raise ServiceError(
            "this server does not know where the links of its mails lead, or who they are from",
            code="portal_not_configured",
            status_code=503,
            retryable=False,
            hint="set DOMINUS_PORTAL_URL and DOMINUS_PORTAL_SENDER on the server",
        )
    token = new_token()
    if user_id is not None:
        await connection.execute(_REPLACE, *place_of(ctx), user_id, link.kind)
    made = await connection.fetchrow(
        _ADD,
        *place_of(ctx),
        digest_of(token),
        link.kind,
        user_id,
        email,
        tenant_id,
        list(role_ids),
        link.hours,
    )
    if made is None:
        raise RuntimeError("the link was not stored")
    action = f"{url.rstrip('/')}{link.path}"
    whole = {
        "product_name": settings.portal_name or ctx.principal.project,
        "action_url": action if link is NOTICE else f"{action}?token={quote(token, safe='')}",
        **model,
    }
    mail: dict[str, Any] = {
        "template_alias": link.template,
        "to": email,
        "from_email": sender,
        "model": whole,
    }
    await accept(
        ctx,
        connection,
        SendRequest(**mail, tag=link.template),
    )
    return made


class _TakenBack(Exception):  # noqa: N818 - no error: it ends a transaction
    pass


async def rehearsed(
    ctx: Context, connection: Connection, link: Link, email: str, model: dict[str, Any]
) -> None:
    """Do what mailing a link takes, and take it back; what would be refused is refused."""
    with contextlib.suppress(_TakenBack):
        async with connection.transaction():
            await mail_link(ctx, connection, link, email, model)
            raise _TakenBack


@contextlib.asynccontextmanager
async def answered_evenly() -> AsyncGenerator[None]:
    """Let a block take EVEN_SECONDS at least."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + EVEN_SECONDS
    try:
        yield
    finally:
        await asyncio.sleep(max(0.0, ends - loop.time()))


async def find(ctx: Context, connection: Connection, link: Link, token: str) -> Record:
    """Return what a link stands for, and leave it as it is.

    Raises:
        ValidationError: it is good no more, or never was.
    """
    return _good(await connection.fetchrow(_FIND, *place_of(ctx), digest_of(token), link.kind))


async def consume(ctx: Context, connection: Connection, link: Link, token: str) -> Record:
    """Use a link up, in the transaction of what it is for; return what it stands for.

    Raises:
        ValidationError: it is good no more, or never was.
    """
    return _good(await connection.fetchrow(_CONSUME, *place_of(ctx), digest_of(token), link.kind))


def no_link() -> ValidationError:
    """Return the error for a link that is good for nothing."""
    return ValidationError(
        "this link was used before, is too old, or is none of ours",
        code="mail_link_invalid",
        hint="ask for another mail",
    )


def _good(row: Record | None) -> Record:
    if row is None:
        raise no_link()
    return row
