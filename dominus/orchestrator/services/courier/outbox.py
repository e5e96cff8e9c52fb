"""The outbox as users see it."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import from_json, to_json

from dominus.contract import courier as contract
from dominus.contract.mail_address import parse_address
from dominus.errors import ConflictError, NotFoundError, ValidationError
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import written
from dominus.orchestrator.outbox.store import NOTIFY
from dominus.orchestrator.services.courier.registry import fetched, handlers, iso, place_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record

__all__ = ["handlers"]

MAX_PAGE_BYTES = 4 * 1024 * 1024
"""Of the models of one page, but for its last mail."""
_COLUMNS = """
id, recipients, sender, template_alias, template_version, model, subject, status, tag, reply_to, attempts,
may_be_duplicate, error, refused, submitted_at, due_at, sending_since, finished_at"""
_PLACE = "project = $1 AND environment = $2"
# A page ends early where models are large.
_PAGE = f"""
SELECT {_COLUMNS}, found_count
FROM (
  SELECT *, count(*) OVER () AS found_count, coalesce(sum(octet_length(model::text)) OVER (
    ORDER BY submitted_at DESC, id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
  ), 0) AS size_before
  FROM (
    SELECT {_COLUMNS} FROM dominus.mails WHERE {{conditions}} ORDER BY submitted_at DESC, id DESC LIMIT {{limit}}
  ) AS found
) AS sized
WHERE size_before <= {MAX_PAGE_BYTES}
ORDER BY submitted_at DESC, id DESC
"""
_MESSAGE = f"SELECT {_COLUMNS}, html, text FROM dominus.mails WHERE {_PLACE} AND id = $3"
# A mail whose recipients were all refused for good is tried for all of them again.
_REQUEUE = f"""
UPDATE dominus.mails
SET status = 'queued', due_at = now(), give_up_at = now() + make_interval(hours => $3), finished_at = NULL,
    error = NULL, refused = CASE WHEN pending = '{{}}' THEN '{{}}' ELSE refused END,
    pending = CASE WHEN pending = '{{}}' THEN ARRAY(SELECT jsonb_object_keys(refused)) ELSE pending END
WHERE {_PLACE} AND status IN ('dead', 'kept')
"""
_REQUEUE_DEAD = f"{_REQUEUE} AND status = 'dead'"
_REQUEUE_THESE = f"{_REQUEUE} AND id = ANY($4::uuid[]) RETURNING id"
_STATUSES = f"SELECT id, status FROM dominus.mails WHERE {_PLACE} AND id = ANY($3::uuid[])"


@handlers(contract.OUTBOX)
async def list_mails(ctx: Context, request: contract.OutboxRequest) -> contract.OutboxPage:
    """The newest first; each page goes on after the last mail of the one before."""
    where, values = [_PLACE], list[Any]()

    def chosen(condition: str, *given: Any) -> None:
        numbers = range(len(values) + 3, len(values) + 3 + len(given))
        where.append(condition.format(*(f"${number}" for number in numbers)))
        values.extend(given)

    if request.status is not None:
        chosen("status = {}", request.status)
    if request.tag is not None:
        chosen("tag = {}", request.tag)
    if request.template_alias is not None:
        chosen("template_alias = {}", request.template_alias)
    if request.to is not None:
        address = parse_address(request.to).address
        chosen("lower({}) = ANY (regexp_split_to_array(lower(recipients), '[<>, ]+'))", address)
    if request.cursor is not None:
        chosen("(submitted_at, id) < ({}, {})", *_position(request.cursor))
    rows = await fetched(ctx, _PAGE.format(conditions=" AND ".join(where), limit=request.limit + 1), *values)
    shown = rows[: request.limit]
    cursor = _cursor_after(shown[-1]) if rows and rows[0]["found_count"] > len(shown) else None
    return {"items": [_item(row) for row in shown], "cursor": cursor}


@handlers(contract.MESSAGE)
async def read_mail(ctx: Context, request: contract.MessageRequest) -> contract.OutboxMessage:
    """One mail, with what it says."""
    rows = await fetched(ctx, _MESSAGE, request.message_id)
    if not rows:
        raise _missing([request.message_id])
    return cast(
        "contract.OutboxMessage", {**_item(rows[0]), "html": rows[0]["html"], "text": rows[0]["text"]}
    )


@handlers(contract.RETRY)
async def retry(ctx: Context, request: contract.RetryRequest) -> RawJson:
    """All that were named, or none of them."""
    hours = ctx.resources.settings.courier_give_up_hours

    async def change(connection: Connection) -> contract.Retried:
        if request.message_ids is None:
            done = await connection.execute(_REQUEUE_DEAD, *place_of(ctx), hours)
            count = int(done.rpartition(" ")[2])
        else:
            ids = sorted(set(request.message_ids))
            rows = await connection.fetch(_REQUEUE_THESE, *place_of(ctx), hours, ids)
            count = len(rows)
            await _check_all(ctx, connection, set(ids) - {str(row["id"]) for row in rows})
        if count and ctx.resources.settings.courier_backend == "outbox":
            raise ConflictError(
                "this server sends no mails",
                code="no_relay",
                hint="set DOMINUS_COURIER_BACKEND to smtp or postmark there",
            )
        await connection.execute(NOTIFY)
        return {"retried": count}

    return await written(ctx, change)


async def _check_all(ctx: Context, connection: Connection, left: set[str]) -> None:
    if not left:
        return
    known = {
        str(row["id"]): row["status"]
        for row in await connection.fetch(_STATUSES, *place_of(ctx), sorted(left))
    }
    if unknown := sorted(left - known.keys()):
        raise _missing(unknown)
    message_id, status = min(known.items())
    raise ConflictError(
        f"mail {message_id} is {status}: only dead and kept mails are sent again",
        code="wrong_state",
        details={"message_id": message_id, "status": status},
    )


def _missing(ids: list[str]) -> NotFoundError:
    return NotFoundError(
        f"there is no mail {', '.join(ids[:5])}", code="message_not_found", details={"missing": ids}
    )


def _item(row: Record) -> contract.OutboxItem:
    return {
        "message_id": str(row["id"]),
        "to": row["recipients"],
        "from": row["sender"],
        "template_alias": row["template_alias"],
        "template_version": row["template_version"],
        "model": from_json(row["model"]),
        "subject": row["subject"],
        "status": row["status"],
        "tag": row["tag"],
        "reply_to": row["reply_to"],
        "attempts": row["attempts"],
        "may_be_duplicate": row["may_be_duplicate"],
        "error": row["error"],
        "refused": from_json(row["refused"]),
        "submitted_at": row["submitted_at"].isoformat(),
        "next_attempt_at": iso(row["due_at"]) if row["status"] in {"queued", "uncertain"} else None,
        "sending_since": iso(row["sending_since"]),
        "finished_at": iso(row["finished_at"]),
    }


def _cursor_after(row: Record) -> str:
    key = to_json([row["submitted_at"].isoformat(), str(row["id"])])
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()


def _position(cursor: str) -> tuple[dt.datetime, str]:
    try:
        said: Any = from_json(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        moment, message_id = said
        # One without a time zone is none of ours; in UTC it does no harm.
        found = dt.datetime.fromisoformat(moment)
        return found if found.tzinfo else found.replace(tzinfo=dt.UTC), str(uuid.UUID(message_id))
    except (binascii.Error, ValueError, TypeError, AttributeError):
        raise ValidationError("the cursor is not one that a page gave", code="invalid_cursor") from None
