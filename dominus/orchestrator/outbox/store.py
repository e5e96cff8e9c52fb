"""The outbox in PostgreSQL. Its clock is the database's: replicas need not agree about the time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from dominus.orchestrator.engines.mail.message import Mail

if TYPE_CHECKING:
    import datetime as dt

    from dominus.orchestrator.engines.postgres.typing import Connection, Executor
    from dominus.orchestrator.outbox.verdict import Verdict

__all__ = ["CHANNEL", "NOTIFY", "Claimed", "NewMail", "OutboxStore", "add", "find_by_key", "purge"]

CHANNEL = "dominus_courier"
NOTIFY = f"SELECT pg_notify('{CHANNEL}', '')"
PURGE_BATCH = 1000
LOST = "the process that was sending it ended before it recorded what the relay said"

# The row of a key that is there already is left as it is; `add` then reads it.
_ADD = """
INSERT INTO dominus.mails
  (id, project, environment, status, key, key_fingerprint, template_alias, template_version, model, sender,
   recipients, reply_to, tag, subject, html, text, pending, request_id, submitted_by, give_up_at, finished_at)
VALUES
  (gen_random_uuid(), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
   now() + make_interval(hours => $19), CASE WHEN $3 = 'kept' THEN now() END)
ON CONFLICT (project, environment, key) WHERE key IS NOT NULL DO NOTHING
RETURNING id, submitted_at
"""
_BY_KEY = """
SELECT id, submitted_at, recipients, key_fingerprint
FROM dominus.mails
WHERE project = $1 AND environment = $2 AND key = $3
"""
# MATERIALIZED: as a mere subquery it might run again for each row, and take more than its LIMIT.
_CLAIM = """
WITH due AS MATERIALIZED (
  SELECT id
  FROM dominus.mails
  WHERE status IN ('queued', 'uncertain') AND due_at <= now()
  ORDER BY due_at
  LIMIT $1
  FOR UPDATE SKIP LOCKED
)
UPDATE dominus.mails AS m
SET status = 'sending', sending_since = now(), attempts = attempts + 1
FROM due
WHERE m.id = due.id
RETURNING m.id, m.sender, m.recipients, m.pending, m.subject, m.html, m.text, m.tag, m.reply_to, m.submitted_at,
          m.attempts, m.has_accepted, now() >= m.give_up_at AS is_last
"""
# Whoever was late finds another attempt's number, and changes nothing. Who is late but found no successor yet says
# that the mail went out, and no second one follows.
_RECORD = """
UPDATE dominus.mails
SET status = $3, pending = $4, refused = refused || $5::text::jsonb, has_accepted = has_accepted OR $6, error = $7,
    may_be_duplicate = may_be_duplicate OR $8, due_at = now() + make_interval(secs => $9),
    sending_since = NULL, finished_at = CASE WHEN $3 IN ('sent', 'dead') THEN now() END
WHERE id = $1 AND attempts = $2 AND status IN ('sending', 'uncertain')
"""
_RECOVER = """
UPDATE dominus.mails
SET status = 'uncertain', may_be_duplicate = true, error = $2, due_at = now(), sending_since = NULL
WHERE id IN (
  SELECT id
  FROM dominus.mails
  WHERE status = 'sending' AND sending_since < now() - make_interval(secs => $1) AND id <> ALL ($3::uuid[])
  FOR UPDATE SKIP LOCKED
)
"""
_NEXT_DUE = """
SELECT extract(epoch FROM min(due_at) - now())::float8
FROM dominus.mails
WHERE status IN ('queued', 'uncertain')
"""
_PURGE = """
DELETE FROM dominus.mails
WHERE id IN (
  SELECT id
  FROM dominus.mails
  WHERE status IN ('sent', 'dead', 'kept') AND finished_at < now() - make_interval(days => $1)
  LIMIT $2
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMail:
    """A mail that is to be accepted."""

    project: str
    environment: str
    status: str
    key: str | None
    key_fingerprint: bytes | None
    template_alias: str
    template_version: int
    model: str
    """JSON."""
    sender: str
    recipients: str
    reply_to: str | None
    tag: str | None
    subject: str
    html: str | None
    text: str | None
    pending: list[str]
    request_id: str
    submitted_by: str
    give_up_hours: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A mail that this process is to send now."""

    mail: Mail
    attempt: int
    has_accepted: bool
    is_last: bool
    """It is too old for another try after this one."""


class OutboxStore:
    """What the sending task asks of the table."""

    def __init__(self, database: Executor) -> None:
        self._database = database

    async def claim(self, limit: int) -> list[Claimed]:
        """Mark due mails as being sent from now on, and return them; nobody else gets them."""
        rows = await self._database.fetch(_CLAIM, limit)
        return [
            Claimed(
                Mail(
                    message_id=str(row["id"]),
                    sender=row["sender"],
                    to=row["recipients"],
                    recipients=tuple(row["pending"]),
                    subject=row["subject"],
                    html=row["html"],
                    text=row["text"],
                    tag=row["tag"],
                    reply_to=row["reply_to"],
                    submitted_at=row["submitted_at"],
                ),
                row["attempts"],
                row["has_accepted"],
                row["is_last"],
            )
            for row in rows
        ]

    async def record(
        self,
        claimed: Claimed,
        verdict: Verdict,
        *,
        refused: Mapping[str, str],
        has_accepted: bool,
        is_uncertain: bool,
    ) -> bool:
        """Write what became of a try; false when another process had taken the mail over."""
        done = await self._database.execute(
            _RECORD,
            claimed.mail.message_id,
            claimed.attempt,
            verdict.status,
            list(verdict.pending),
            # PostgreSQL's text knows no NUL, and a relay may say anything.
            to_json(dict(refused)).decode().replace("\\u0000", ""),
            has_accepted,
            verdict.error.replace("\0", "") if verdict.error else None,
            is_uncertain,
            verdict.delay_seconds,
        )
        return done != "UPDATE 0"

    async def recover(self, lease_seconds: float, own: Collection[str] = ()) -> int:
        """Queue again what has been `sending` for longer than any try takes, but for our own; return how many mails."""
        done = await self._database.execute(_RECOVER, lease_seconds, LOST, list(own))
        return int(done.rpartition(" ")[2])

    async def seconds_to_next(self) -> float | None:
        """Return when the next mail is due, None when none waits."""
        seconds: float | None = await self._database.fetchval(_NEXT_DUE)
        return seconds


async def add(connection: Connection, mail: NewMail) -> tuple[str, dt.datetime] | None:
    """Put a mail into the outbox; None when one with its key is there. The caller's transaction makes it durable."""
    row = await connection.fetchrow(
        _ADD,
        mail.project,
        mail.environment,
        mail.status,
        mail.key,
        mail.key_fingerprint,
        mail.template_alias,
        mail.template_version,
        mail.model,
        mail.sender,
        mail.recipients,
        mail.reply_to,
        mail.tag,
        mail.subject,
        mail.html,
        mail.text,
        mail.pending,
        mail.request_id,
        mail.submitted_by,
        mail.give_up_hours,
    )
    if row is None:
        return None
    if mail.status == "queued":
        await connection.execute(NOTIFY)
    return str(row["id"]), row["submitted_at"]


async def find_by_key(connection: Connection, project: str, environment: str, key: str) -> Any:
    """Return id, submitted_at, recipients and key_fingerprint of the mail of a key, or None."""
    return await connection.fetchrow(_BY_KEY, project, environment, key)


async def purge(database: Executor, days: int) -> int:
    """Delete the mails that were finished more than `days` ago, in batches; return how many."""
    deleted = 0
    while True:
        done = await database.execute(_PURGE, days, PURGE_BATCH)
        batch = int(done.rpartition(" ")[2])
        deleted += batch
        if batch < PURGE_BATCH:
            return deleted
