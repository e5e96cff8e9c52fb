"""secrets: encrypted, versioned values."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import PydanticSerializationError, from_json, to_json

from dominus.contract import secrets as contract
from dominus.errors import NotFoundError, ServiceError, ValidationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import written
from dominus.orchestrator.handlers.registry import Handlers

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record

__all__ = ["handlers"]

handlers = Handlers(contract.secrets)


MAX_SECRET_BYTES = 1024 * 1024
"""Of a value's JSON."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Of all values of one answer."""


MAX_DEPTH = 100
_SPARE_DEPTH = 201 - MAX_DEPTH
"""The parser, ours and the client's, goes 201 levels deep."""
_MAX_VERSION = 2**31 - 1


_GET = """
SELECT s.version AS newest, v.version, v.nonce, v.ciphertext, v.comment, v.created_at, d.wrapped, d.master_id
FROM dominus.secrets s
LEFT JOIN dominus.secret_versions v
  ON (v.project, v.environment, v.key, v.version) = (s.project, s.environment, s.key, COALESCE($4, s.version))
LEFT JOIN dominus.data_keys d ON d.id = v.data_key_id
WHERE s.project = $1 AND s.environment = $2 AND s.key = $3
"""


# What is too much together is not even read: the length of a value is known without it.
_GET_MANY = """
WITH found AS (
  SELECT s.key, s.version, v.nonce, v.ciphertext, v.data_key_id,
         sum(octet_length(v.ciphertext)) OVER () <= $4 AS fits
  FROM dominus.secrets s
  JOIN dominus.secret_versions v USING (project, environment, key, version)
  WHERE s.project = $1 AND s.environment = $2 AND s.key = ANY($3::text[])
)
SELECT f.key, f.version, f.nonce, CASE WHEN f.fits THEN f.ciphertext END AS ciphertext, f.fits,
       d.wrapped, d.master_id
FROM found f
JOIN dominus.data_keys d ON d.id = f.data_key_id
"""


# The row is the lock: of two writers the second waits here and gets the next version.
_NEXT_VERSION = """
INSERT INTO dominus.secrets AS s (project, environment, key, version, comment, updated_by)
VALUES ($1, $2, $3, 1, $4, $5)
ON CONFLICT (project, environment, key) DO UPDATE
SET version = s.version + 1,
    comment = COALESCE(EXCLUDED.comment, s.comment),
    updated_at = EXCLUDED.updated_at,
    updated_by = EXCLUDED.updated_by
RETURNING version, comment
"""


_ADD_VERSION = """
INSERT INTO dominus.secret_versions
  (project, environment, key, version, nonce, ciphertext, data_key_id, comment, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""


# `^@` is "starts with": a prefix has no wildcards.
_LIST = """
SELECT key, version, comment, created_at, updated_at, updated_by
FROM dominus.secrets
WHERE project = $1 AND environment = $2 AND key ^@ $3
ORDER BY key COLLATE "C"
"""


_VERSIONS = """
SELECT key, version, comment, created_at, created_by AS updated_by
FROM dominus.secret_versions
WHERE project = $1 AND environment = $2 AND key = $3
ORDER BY version DESC
"""


# Its versions go with it, by their foreign key.
_DELETE = """
DELETE FROM dominus.secrets
WHERE project = $1 AND environment = $2 AND key = $3
"""


@handlers(contract.GET)
async def get_secret(ctx: Context, request: contract.SecretGet) -> RawJson:
    """Its newest version, or the one asked for."""
    version = request.version
    if version is not None and version > _MAX_VERSION:
        raise _missing(ctx, request.key, version)
    rows = await _fetched(ctx, _GET, request.key, version)
    if not rows or rows[0]["nonce"] is None:
        raise _missing(ctx, request.key, version if rows else None)
    row = rows[0]
    facts = {
        "key": request.key,
        "version": row["version"],
        "comment": row["comment"],
        "updated_at": row["created_at"].isoformat(),
    }
    # Values are JSON already, and go out as they were stored: making objects of them would hold up other requests.
    return RawJson.of(b'{"secret":{"value":%b,%b}' % (_opened(ctx, request.key, row), to_json(facts)[1:]))


@handlers(contract.GET_MANY)
async def get_secrets(ctx: Context, request: contract.SecretGetMany) -> RawJson:
    """One query, whatever their number."""
    keys = list(dict.fromkeys(request.keys))
    rows = {row["key"]: row for row in await _fetched(ctx, _GET_MANY, keys, MAX_ANSWER_BYTES)}
    if not all(row["fits"] for row in rows.values()):
        raise ValidationError(
            f"the secrets are more than {MAX_ANSWER_BYTES >> 20} MiB together",
            code="answer_too_large",
            hint="ask for fewer at once",
        )
    values = b",".join(b"%b:%b" % (to_json(key), _opened(ctx, key, rows[key])) for key in keys if key in rows)
    missing = to_json([key for key in keys if key not in rows])
    return RawJson.of(b'{"values":{%b},"missing":%b}' % (values, missing))


@handlers(contract.UPSERT)
async def upsert_secret(ctx: Context, request: contract.SecretUpsert) -> RawJson:
    """`create` and `update` are one: the published client sends `update` for new keys too."""
    plaintext = _encoded(request.value)

    async def change(connection: Connection) -> contract.SecretStored:
        version = await _added_version(ctx, connection, request, plaintext)
        operation = "create" if version == 1 else "update"
        return {"key": request.key, "version": version, "operation": operation}

    return await written(ctx, change)


@handlers(contract.LIST)
async def list_secrets(ctx: Context, request: contract.SecretsList) -> contract.SecretList:
    """What is known of them, never a value."""
    return {"secrets": [_info(row) for row in await _fetched(ctx, _LIST, request.prefix or "")]}


@handlers(contract.VERSIONS)
async def list_versions(ctx: Context, request: contract.SecretVersions) -> contract.SecretList:
    """Newest first, never a value."""
    rows = await _fetched(ctx, _VERSIONS, request.key)
    if not rows:
        raise _missing(ctx, request.key)
    return {"secrets": [_info(row) for row in rows]}


@handlers(contract.DELETE)
async def delete_secret(ctx: Context, request: contract.SecretDelete) -> RawJson:
    """With all its versions."""

    async def change(connection: Connection) -> contract.SecretDeleted:
        said = await connection.execute(_DELETE, *_place(ctx), request.key)
        return {"key": request.key, "deleted": said != "DELETE 0"}

    return await written(ctx, change)


async def _added_version(
    ctx: Context, connection: Connection, request: contract.SecretUpsert, plaintext: bytes
) -> int:
    project, environment = _place(ctx)
    vault, author = ctx.resources.vault, ctx.principal.subject
    data_key = await vault.data_key(connection, project, environment)
    row = await connection.fetchrow(_NEXT_VERSION, project, environment, request.key, request.comment, author)
    if row is None:
        raise ServiceError("the secret was not stored", code="secret_corrupt")
    version: int = row["version"]
    sealed = vault.seal(
        plaintext, data_key, project=project, environment=environment, key=request.key, version=version
    )
    await connection.execute(
        _ADD_VERSION,
        project,
        environment,
        request.key,
        version,
        sealed.nonce,
        sealed.ciphertext,
        sealed.data_key_id,
        row["comment"],
        author,
    )
    return version


async def _fetched(ctx: Context, query: str, *args: Any) -> list[Record]:
    try:
        return await ctx.resources.postgres.system.fetch(query, *_place(ctx), *args)
    except FAILURES as error:
        raise from_postgres(error) from error


def _place(ctx: Context) -> tuple[str, str]:
    return ctx.principal.project, ctx.principal.environment


def _opened(ctx: Context, key: str, row: Record) -> bytes:
    """Return the JSON of a value."""
    project, environment = _place(ctx)
    return ctx.resources.vault.open(
        row, project=project, environment=environment, key=key, version=row["version"]
    )


def _encoded(value: Any) -> bytes:
    try:
        data = to_json(value)
    except PydanticSerializationError:
        raise ValidationError("value: is not JSON in Unicode") from None
    if len(data) > MAX_SECRET_BYTES:
        raise ValidationError(
            f"value: has {len(data)} bytes of JSON, a secret has at most {MAX_SECRET_BYTES}",
            hint="store large things as files",
        )
    _check(data)
    return data


def _check(data: bytes) -> None:
    """Refuse what no reader could parse: too deep, or a number that became infinite, as 1e999 does."""
    if b"Infinity" not in data and b"NaN" not in data and data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    try:
        from_json(b"[" * _SPARE_DEPTH + data + b"]" * _SPARE_DEPTH, allow_inf_nan=False)
    except ValueError as error:
        if "recursion" in str(error):
            raise ValidationError(f"value: nested more than {MAX_DEPTH} deep") from None
        raise ValidationError("value: a number is too large for a JSON number") from None


def _info(row: Record) -> contract.SecretInfo:
    known = {
        name: value.isoformat() if isinstance(value, dt.datetime) else value for name, value in row.items()
    }
    return cast("contract.SecretInfo", known)


def _missing(ctx: Context, key: str, version: int | None = None) -> NotFoundError:
    project, environment = _place(ctx)
    which = f"secret {key!r}" if version is None else f"version {version} of secret {key!r}"
    return NotFoundError(
        f"{which} does not exist in project {project!r}, environment {environment!r}",
        code="secret_not_found",
        details={"key": key},
    )
