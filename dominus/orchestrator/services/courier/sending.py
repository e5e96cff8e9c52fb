"""Accepting mails: rendered at once, so that what is wrong is said to the caller, and stored in one transaction."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from dominus.contract import courier as contract
from dominus.contract.mail_address import MailAddress, parse_address, parse_addresses
from dominus.errors import AuthorizationError, ConflictError
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import written
from dominus.orchestrator.outbox.store import NewMail, add, find_by_key
from dominus.orchestrator.services.courier.registry import handlers, place_of
from dominus.orchestrator.services.courier.templates import find_template, model_json, rendered

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection

__all__ = ["accept"]


@handlers(contract.SEND)
async def send(ctx: Context, request: contract.SendRequest) -> RawJson:
    """Accept one mail."""

    async def change(connection: Connection) -> contract.Submitted:
        return await accept(ctx, connection, request)

    return await written(ctx, change)


async def accept(ctx: Context, connection: Connection, request: contract.SendRequest) -> contract.Submitted:
    """Put a mail into the outbox, in the caller's transaction: for the services that send mails, too.

    Raises:
        NotFoundError: there is no such template.
        ValidationError: the model does not fit the template.
        AuthorizationError: mails may not be from this sender.
        ConflictError: the key belongs to another mail.
    """
    settings = ctx.resources.settings
    _check_sender(parse_address(request.from_email), settings.courier_senders)
    model = model_json(request.model)
    print_of_key = hashlib.sha256(_identity(request)).digest() if request.idempotency_key else None
    if known := await _accepted(ctx, connection, request, print_of_key):
        return known
    stored = await find_template(connection, place_of(ctx), request.template_alias)
    said = rendered(stored.parts, request.model)
    project, environment = place_of(ctx)
    mail = NewMail(
        project=project,
        environment=environment,
        status="kept" if settings.courier_backend == "outbox" else "queued",
        key=request.idempotency_key,
        key_fingerprint=print_of_key,
        template_alias=request.template_alias,
        template_version=stored.version,
        model=model,
        sender=request.from_email,
        recipients=request.to,
        reply_to=request.reply_to,
        tag=request.tag,
        subject=said["subject"],
        html=said["html"],
        text=said["text"],
        pending=[one.address for one in parse_addresses(request.to)],
        request_id=ctx.request_id,
        submitted_by=ctx.principal.subject,
        give_up_hours=settings.courier_give_up_hours,
    )
    made = await add(connection, mail)
    if made is None:
        # Another one with this key was accepted while we rendered.
        known = await _accepted(ctx, connection, request, print_of_key)
        if known is None:
            raise ConflictError("a mail of this key was just deleted", code="mail_key_reused")
        return known
    return {"to": request.to, "message_id": made[0], "submitted_at": made[1].isoformat()}


async def _accepted(
    ctx: Context, connection: Connection, request: contract.SendRequest, print_of_key: bytes | None
) -> contract.Submitted | None:
    if request.idempotency_key is None:
        return None
    row = await find_by_key(connection, *place_of(ctx), request.idempotency_key)
    if row is None:
        return None
    if row["key_fingerprint"] != print_of_key:
        raise ConflictError(
            "this key belongs to another mail",
            code="mail_key_reused",
            details={"message_id": str(row["id"])},
            hint="take a key for each mail, such as `receipt-<order>`",
        )
    return {
        "to": row["recipients"],
        "message_id": str(row["id"]),
        "submitted_at": row["submitted_at"].isoformat(),
    }


def _identity(request: contract.SendRequest) -> bytes:
    # Sorted: a model that was built in another order is the same model.
    return json.dumps(request.model_dump(by_alias=True, exclude={"idempotency_key"}), sort_keys=True).encode()


def _check_sender(sender: MailAddress, allowed: str) -> None:
    entries = [entry.strip().lower().removeprefix("@") for entry in allowed.split(",") if entry.strip()]
    address = sender.address.lower()
    if entries and not any(address == entry if "@" in entry else sender.domain == entry for entry in entries):
        raise AuthorizationError(
            f"mails may not be from {sender.address}",
            code="sender_not_allowed",
            hint="DOMINUS_COURIER_SENDERS on the server lists addresses and domains",
        )
