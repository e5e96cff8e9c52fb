"""What users say of themselves, and how they want it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from dominus.contract import portal as contract
from dominus.contract.request import Empty
from dominus.errors import ValidationError
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import written
from dominus.orchestrator.services.portal.registry import fetched, handlers, over, place_of, user_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record

_PROFILE = """
SELECT u.id::text AS user_id, u.username, u.email, p.display_name, p.avatar_url, p.bio, p.phone,
  coalesce(p.extra, '{}') AS extra
FROM dominus.users u
LEFT JOIN dominus.user_profiles p ON (p.project, p.environment, p.user_id) = (u.project, u.environment, u.id)
WHERE u.project = $1 AND u.environment = $2 AND u.id = $3
"""
_PREFERENCES = """
SELECT coalesce(p.theme, 'system') AS theme, coalesce(p.language, 'en') AS language,
  coalesce(p.timezone, 'UTC') AS timezone, coalesce(p.sidebar_collapsed, false) AS sidebar_collapsed,
  coalesce(p.notifications_enabled, true) AS notifications_enabled,
  coalesce(p.email_notifications, true) AS email_notifications, coalesce(p.extra, '{}') AS extra
FROM dominus.users u
LEFT JOIN dominus.user_preferences p ON (p.project, p.environment, p.user_id) = (u.project, u.environment, u.id)
WHERE u.project = $1 AND u.environment = $2 AND u.id = $3
"""
_TEXTS = ("display_name", "avatar_url", "bio", "phone")
_CHOICES = (
    "theme",
    "language",
    "timezone",
    "sidebar_collapsed",
    "notifications_enabled",
    "email_notifications",
)


@handlers(contract.GET_PROFILE)
async def get_profile(ctx: Context, _: Empty) -> contract.Profile:
    """Read it."""
    session = await user_of(ctx)
    return _shown(await fetched(ctx, _PROFILE, session.subject_id))


@handlers(contract.UPDATE_PROFILE)
async def update_profile(ctx: Context, request: contract.ProfileRequest) -> RawJson:
    """Change what was sent."""
    return await _changed(ctx, request, "user_profiles", _TEXTS, _PROFILE)


@handlers(contract.GET_PREFERENCES)
async def get_preferences(ctx: Context, _: Empty) -> contract.Preferences:
    """Read them."""
    session = await user_of(ctx)
    return _shown(await fetched(ctx, _PREFERENCES, session.subject_id))


@handlers(contract.UPDATE_PREFERENCES)
async def update_preferences(ctx: Context, request: contract.PreferencesRequest) -> RawJson:
    """Change what was sent."""
    return await _changed(ctx, request, "user_preferences", _CHOICES, _PREFERENCES)


async def _changed(ctx: Context, request: Any, table: str, names: tuple[str, ...], read: str) -> RawJson:
    session = await user_of(ctx)
    sent = {name: value for name in names if (value := getattr(request, name)) is not None}
    if request.extra is not None:
        sent["extra"] = _extra(request.extra)
    values = [None if value == "" else value for value in sent.values()]

    async def change(connection: Connection) -> Any:
        await connection.execute(_upsert(table, list(sent)), *place_of(ctx), session.subject_id, *values)
        return _shown(await connection.fetch(read, *place_of(ctx), session.subject_id))

    return await written(ctx, change)


def _upsert(table: str, names: list[str]) -> str:
    """Return the statement that changes some columns; their names are those of the contract."""
    columns = ", ".join(["project", "environment", "user_id", *names])
    values = ", ".join(f"${number}" for number in range(1, len(names) + 4))
    sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in names)
    then = f"DO UPDATE SET {sets}" if names else "DO NOTHING"
    return (
        f"INSERT INTO dominus.{table} ({columns}) VALUES ({values})"
        f" ON CONFLICT (project, environment, user_id) {then}"
    )


def _extra(value: dict[str, Any]) -> str:
    text = to_json(value)
    if len(text) > contract.MAX_EXTRA_BYTES:
        raise ValidationError(f"extra: has {len(text)} bytes of JSON, {contract.MAX_EXTRA_BYTES} are allowed")
    return text.decode()


def _shown(rows: list[Record]) -> Any:
    if not rows:
        raise over()
    found = dict(rows[0].items())
    found["extra"] = from_json(found["extra"])
    return found
