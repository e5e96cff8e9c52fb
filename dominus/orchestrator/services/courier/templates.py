"""Templates: kept in versions, checked when they are stored, rendered by courier's own engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from dominus.contract import courier as contract
from dominus.contract.mail_address import header_text
from dominus.contract.request import Empty
from dominus.contract.suggestion import suggestion
from dominus.errors import NotFoundError, ServiceError, ValidationError
from dominus.orchestrator.engines.mail.builtin import BUILT_IN, Parts
from dominus.orchestrator.engines.mail.template import parse, render
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import written
from dominus.orchestrator.services.courier.registry import fetched, handlers, iso, place_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Executor, Record

__all__ = ["Stored", "find_template", "model_json", "rendered"]

MAX_MODEL_BYTES = 256 * 1024
"""Of a model's JSON."""

_FIND = """
SELECT v.version, v.subject, v.html, v.text, v.comment, v.created_at, v.created_by
FROM dominus.mail_templates t
JOIN dominus.mail_template_versions v
  ON (v.project, v.environment, v.alias, v.version)
   = (t.project, t.environment, t.alias, COALESCE($4, t.version))
WHERE t.project = $1 AND t.environment = $2 AND t.alias = $3
"""
_ALIASES = "SELECT alias FROM dominus.mail_templates WHERE project = $1 AND environment = $2 LIMIT 1000"
_LIST = """
SELECT v.alias, v.version, v.subject, v.comment, v.created_at, v.created_by
FROM dominus.mail_templates t
JOIN dominus.mail_template_versions v USING (project, environment, alias, version)
WHERE t.project = $1 AND t.environment = $2
"""
_VERSIONS = """
SELECT alias, version, subject, comment, created_at, created_by
FROM dominus.mail_template_versions
WHERE project = $1 AND environment = $2 AND alias = $3
ORDER BY version DESC
"""
# The row is the lock: of two writers the second waits here and gets the next version.
_NEXT_VERSION = """
INSERT INTO dominus.mail_templates AS t (project, environment, alias, version)
VALUES ($1, $2, $3, 1)
ON CONFLICT (project, environment, alias) DO UPDATE SET version = t.version + 1
RETURNING version
"""
_ADD_VERSION = """
INSERT INTO dominus.mail_template_versions
  (project, environment, alias, version, subject, html, text, comment, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_DELETE = "DELETE FROM dominus.mail_templates WHERE project = $1 AND environment = $2 AND alias = $3"


@dataclass(frozen=True, slots=True)
class Stored:
    """A template as it is used: one of your own, or version 0, the built-in one."""

    parts: Parts
    version: int
    comment: str | None = None
    created_at: str | None = None
    created_by: str | None = None


async def find_template(
    database: Executor, place: tuple[str, str], alias: str, version: int | None = None
) -> Stored:
    """Return a template in its newest version, or the one asked for.

    Raises:
        NotFoundError: there is none; the message names it.
    """
    if version != 0:
        row = await database.fetchrow(_FIND, *place, alias, version)
        if row is not None:
            parts = Parts(row["subject"], row["html"], row["text"])
            return Stored(parts, row["version"], row["comment"], iso(row["created_at"]), row["created_by"])
    if alias in BUILT_IN and not version:
        return Stored(BUILT_IN[alias], 0)
    known = {row["alias"] for row in await database.fetch(_ALIASES, *place)} | BUILT_IN.keys()
    which = f"template {alias!r}" if version is None else f"version {version} of template {alias!r}"
    raise NotFoundError(
        f"{which} does not exist in project {place[0]!r}, environment {place[1]!r}",
        code="template_not_found",
        details={"template_alias": alias},
        hint=suggestion(alias, sorted(known), lists="templates are"),
    )


def model_json(model: dict[str, Any]) -> str:
    """Return a model as it is kept.

    Raises:
        ValidationError: it is too large, or cannot be written as JSON.
    """
    try:
        text = to_json(model)
        if b"Infinity" in text or b"NaN" in text:
            from_json(text, allow_inf_nan=False)
    except (PydanticSerializationError, ValueError):
        raise ValidationError("model: is not JSON in Unicode", code="invalid_model") from None
    if len(text) > MAX_MODEL_BYTES:
        raise ValidationError(
            f"model: has {len(text)} bytes of JSON, a mail has at most {MAX_MODEL_BYTES}",
            code="invalid_model",
        )
    return text.decode()


def rendered(parts: Parts, model: dict[str, Any]) -> contract.Preview:
    """Write a mail.

    Raises:
        ValidationError: the model lacks a value, or the subject would hold a line break.
    """
    subject = render(parse(parts.subject), model, is_html=False)
    _check_subject(subject)
    html, text = (
        None if part is None else render(parse(part), model, is_html=is_html)
        for part, is_html in ((parts.html, True), (parts.text, False))
    )
    return {"subject": subject, "html": html, "text": text}


def _check_subject(subject: str) -> None:
    what = (
        f"is longer than {contract.MAX_SUBJECT} characters" if len(subject) > contract.MAX_SUBJECT else None
    )
    try:
        header_text(subject)
    except ValueError as error:
        what = str(error)
    if what is not None:
        raise ValidationError(
            f"subject: {what}, and a value of the model makes it so",
            code="invalid_subject",
            hint="a subject takes values of one line",
        )


@handlers(contract.PREVIEW)
async def preview(ctx: Context, request: contract.PreviewRequest) -> contract.Preview:
    """Render, and keep nothing."""
    model_json(request.model)
    if request.template_alias is None:
        return rendered(Parts(request.subject or "", request.html, request.text), request.model)
    pool = ctx.resources.postgres.system
    stored = await find_template(pool, place_of(ctx), request.template_alias, request.version)
    return rendered(stored.parts, request.model)


@handlers(contract.PUT_TEMPLATE)
async def put_template(ctx: Context, request: contract.PutTemplateRequest) -> RawJson:
    """Check all parts, then store them as the next version."""
    for name, part in (("subject", request.subject), ("html", request.html), ("text", request.text)):
        try:
            parse(part or "")
        except ValidationError as error:
            error.message = f"{name}: {error.message}"
            raise

    async def change(connection: Connection) -> contract.TemplateStored:
        row = await connection.fetchrow(_NEXT_VERSION, *place_of(ctx), request.alias)
        if row is None:
            raise ServiceError("the template was not stored")
        await connection.execute(
            _ADD_VERSION,
            *place_of(ctx),
            request.alias,
            row["version"],
            request.subject,
            request.html,
            request.text,
            request.comment,
            ctx.principal.subject,
        )
        return {"alias": request.alias, "version": row["version"]}

    return await written(ctx, change)


@handlers(contract.GET_TEMPLATE)
async def get_template(ctx: Context, request: contract.TemplateRequest) -> contract.Template:
    """Its newest version, or the one asked for."""
    pool = ctx.resources.postgres.system
    stored = await find_template(pool, place_of(ctx), request.alias, request.version)
    info = _built_in(request.alias) if stored.version == 0 else None
    return {
        "alias": request.alias,
        "version": stored.version,
        "subject": stored.parts.subject,
        "html": stored.parts.html,
        "text": stored.parts.text,
        "comment": info["comment"] if info else stored.comment,
        "created_at": stored.created_at,
        "created_by": stored.created_by,
    }


@handlers(contract.LIST_TEMPLATES)
async def list_templates(ctx: Context, _request: Empty) -> contract.TemplateList:
    """Your own and the built-in ones, by alias."""
    found = {alias: _built_in(alias) for alias in BUILT_IN}
    found |= {row["alias"]: _info(row) for row in await fetched(ctx, _LIST)}
    return {"templates": [found[alias] for alias in sorted(found)]}


@handlers(contract.TEMPLATE_VERSIONS)
async def template_versions(ctx: Context, request: contract.AliasRequest) -> contract.TemplateList:
    """Newest first; a built-in one comes last."""
    found = [_info(row) for row in await fetched(ctx, _VERSIONS, request.alias)]
    if request.alias in BUILT_IN:
        found.append(_built_in(request.alias))
    if not found:
        await find_template(ctx.resources.postgres.system, place_of(ctx), request.alias)
    return {"templates": found}


@handlers(contract.DELETE_TEMPLATE)
async def delete_template(ctx: Context, request: contract.AliasRequest) -> RawJson:
    """With all its versions; mails that were accepted keep what they say."""

    async def change(connection: Connection) -> contract.TemplateDeleted:
        said = await connection.execute(_DELETE, *place_of(ctx), request.alias)
        return {"alias": request.alias, "deleted": said != "DELETE 0"}

    return await written(ctx, change)


def _info(row: Record) -> contract.TemplateInfo:
    return {
        "alias": row["alias"],
        "version": row["version"],
        "subject": row["subject"],
        "comment": row["comment"],
        "created_at": iso(row["created_at"]),
        "created_by": row["created_by"],
    }


def _built_in(alias: str) -> contract.TemplateInfo:
    return {
        "alias": alias,
        "version": 0,
        "subject": BUILT_IN[alias].subject,
        "comment": "built in",
        "created_at": None,
        "created_by": None,
    }
