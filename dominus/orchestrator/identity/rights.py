"""What a user or a client may do in a tenant: one query, remembered until something that decides about it changes.

    scopes = its own + those of its roles + those of its subtypes

A scope, a role or a subtype that is tied to tenants or categories counts only in those tenants, or in tenants of those
categories. A role that is tied to subtypes counts only for who is of one of them.

Triggers of all the tables in between notify `dominus_rights` (0010_accounts.sql); where a notification is lost, five
seconds are the most that anything is remembered for.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.pools import Postgres
    from dominus.orchestrator.engines.postgres.typing import Record

__all__ = ["CHANNEL", "NO_RIGHTS", "Rights", "RightsOf", "SubjectType"]

CHANNEL = "dominus_rights"
SubjectType = Literal["user", "client"]

_TTL_SECONDS = 5.0
_MAX_KNOWN = 10_000
_LISTEN_AGAIN_SECONDS = 1.0

# `here` is the active tenant, when the subject belongs to it: one row or none. The ids of scopes are an array, so that
# they are looked up by the index also where nobody has counted the rows yet.
_FIND = """
WITH subject AS (
  SELECT id
  FROM dominus.{kind}s
  WHERE project = $1 AND environment = $2 AND id = $3 AND status = 'active'
), mine AS (
  SELECT t.id, t.slug, t.category_id
  FROM dominus.{kind}_tenants AS l
  JOIN dominus.tenants AS t ON (t.project, t.environment, t.id) = (l.project, l.environment, l.tenant_id)
  WHERE l.project = $1 AND l.environment = $2 AND l.{kind}_id = $3 AND t.status = 'active'
), here AS (
  SELECT id, category_id
  FROM mine
  WHERE id = $4
), my_subtypes AS (
  SELECT l.subtype_id AS id
  FROM dominus.{kind}_subtypes AS l
  WHERE l.project = $1 AND l.environment = $2 AND l.{kind}_id = $3 AND {subtype_counts}
), my_roles AS (
  SELECT r.id, r.name
  FROM dominus.{kind}_roles AS l
  JOIN dominus.roles AS r ON (r.project, r.environment, r.id) = (l.project, l.environment, l.role_id)
  WHERE l.project = $1 AND l.environment = $2 AND l.{kind}_id = $3 AND {role_counts}
    AND (
      NOT EXISTS (SELECT FROM dominus.role_subtypes AS k WHERE {of_role})
      OR EXISTS (SELECT FROM dominus.role_subtypes AS k JOIN my_subtypes AS m ON m.id = k.subtype_id WHERE {of_role})
    )
), my_scopes AS (
  SELECT s.id, s.slug
  FROM dominus.scopes AS s
  WHERE s.project = $1 AND s.environment = $2 AND s.id = ANY(ARRAY(
    SELECT scope_id FROM dominus.{kind}_scopes WHERE project = $1 AND environment = $2 AND {kind}_id = $3
    UNION ALL
    SELECT scope_id FROM dominus.role_scopes
    WHERE project = $1 AND environment = $2 AND role_id IN (SELECT id FROM my_roles)
    UNION ALL
    SELECT scope_id FROM dominus.subtype_scopes
    WHERE project = $1 AND environment = $2 AND subtype_id IN (SELECT id FROM my_subtypes)
  )) AND {scope_counts}
)
SELECT
  (SELECT id::text FROM here) AS tenant_id,
  (SELECT category_id::text FROM here) AS category_id,
  ARRAY(SELECT slug FROM my_scopes) AS scopes,
  ARRAY(SELECT id::text FROM my_scopes) AS scope_ids,
  ARRAY(SELECT name FROM my_roles) AS roles,
  ARRAY(SELECT id::text FROM my_roles) AS role_ids,
  ARRAY(SELECT id::text FROM my_subtypes) AS subtype_ids,
  ARRAY(SELECT slug FROM mine ORDER BY slug) AS tenants
FROM subject
"""
_COUNTS = """(
    (
      NOT EXISTS (SELECT FROM dominus.{name}_tenants AS k WHERE {of})
      AND NOT EXISTS (SELECT FROM dominus.{name}_categories AS k WHERE {of})
    )
    OR EXISTS (SELECT FROM dominus.{name}_tenants AS k JOIN here ON here.id = k.tenant_id WHERE {of})
    OR EXISTS (SELECT FROM dominus.{name}_categories AS k JOIN here ON here.category_id = k.category_id WHERE {of})
  )"""


def _counts(name: str, record_id: str) -> str:
    return _COUNTS.format(name=name, of=_of(name, record_id))


def _of(name: str, record_id: str) -> str:
    return f"k.project = $1 AND k.environment = $2 AND k.{name}_id = {record_id}"


def _query(kind: SubjectType) -> str:
    # Only names of ours are put in; what callers say are parameters.
    return _FIND.format(
        kind=kind,
        of_role=_of("role", "r.id"),
        subtype_counts=_counts("subtype", "l.subtype_id"),
        role_counts=_counts("role", "r.id"),
        scope_counts=_counts("scope", "s.id"),
    )


_QUERIES: dict[SubjectType, str] = {"user": _query("user"), "client": _query("client")}


@dataclass(frozen=True, slots=True)
class Rights:
    """What somebody may do in a tenant."""

    is_active: bool = False
    """False: there is nobody of this id, or somebody who may not log in. Then everything else is empty."""
    scopes: frozenset[str] = frozenset()
    """Slugs."""
    scope_ids: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    """Names."""
    role_ids: frozenset[str] = frozenset()
    subtype_ids: frozenset[str] = frozenset()
    tenants: tuple[str, ...] = ()
    """The slugs of all the active tenants that it belongs to."""
    tenant_id: str | None = None
    """The active tenant; None: none was asked for, or one that it does not belong to, or that is not active."""
    category_id: str | None = None
    """Of that tenant."""

    def may(self, scope: str) -> bool:
        """Return whether a scope is one of them."""
        return scope in self.scopes


NO_RIGHTS = Rights()

_Key = tuple[str, str, SubjectType, str, "str | None"]


class RightsOf:
    """Knows what users and clients may do."""

    def __init__(self, postgres: Postgres, clock: Callable[[], float] = time.monotonic) -> None:
        self._postgres = postgres
        self._clock = clock
        self._known: OrderedDict[_Key, tuple[float, Rights]] = OrderedDict()
        self._generation = 0
        self._is_listening = False
        self._listen_at = float("-inf")
        self._others: list[Callable[[], None]] = []

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back when rights change: others remember what follows from them."""
        self._others.append(callback)

    async def of(
        self, project: str, environment: str, kind: SubjectType, subject_id: str, tenant_id: str | None = None
    ) -> Rights:
        """Return what a user or client may do in a tenant that it belongs to, or in none.

        Args:
            project: that it belongs to.
            environment: that it belongs to.
            kind: `user` or `client`.
            subject_id: its id, a UUID.
            tenant_id: the active tenant. With one that it does not belong to, nothing counts that is tied to tenants.
        """
        key: _Key = (project, environment, kind, subject_id, tenant_id)
        known = self._known.get(key)
        if known is not None and known[0] > self._clock():
            self._known.move_to_end(key)
            return known[1]
        return await self._load(key)

    def forget(self, _: object = None) -> None:
        """Read everything anew: something has changed."""
        self._generation += 1
        self._known.clear()
        for tell in self._others:
            tell()

    async def _load(self, key: _Key) -> Rights:
        await self._listen()
        generation, ends_at = self._generation, self._clock() + _TTL_SECONDS
        project, environment, kind, subject_id, tenant_id = key
        try:
            row = await self._postgres.system.fetchrow(
                _QUERIES[kind], project, environment, subject_id, tenant_id
            )
        except FAILURES as error:
            raise from_postgres(error) from error
        rights = NO_RIGHTS if row is None else _rights(row)
        if generation == self._generation:
            # What changed while it was read may be older than the change.
            self._known[key] = (ends_at, rights)
            self._known.move_to_end(key)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return rights

    async def _listen(self) -> None:
        """Begin to listen at the first use. A PostgreSQL that has no connection left is asked again a second later."""
        if self._is_listening or self._clock() < self._listen_at:
            return
        self._is_listening = True
        try:
            await self._postgres.listen(CHANNEL, self.forget)
        except BaseException as error:
            # Also when a caller's deadline ended it: the next one tries again.
            self._is_listening = False
            if isinstance(error, ServiceError) and error.code == "database_busy":
                # Until then what is known is five seconds old at most.
                self._listen_at = self._clock() + _LISTEN_AGAIN_SECONDS
                return
            if isinstance(error, FAILURES):
                raise from_postgres(error) from error
            raise


def _rights(row: Record) -> Rights:
    return Rights(
        is_active=True,
        scopes=frozenset(row["scopes"]),
        scope_ids=frozenset(row["scope_ids"]),
        roles=frozenset(row["roles"]),
        role_ids=frozenset(row["role_ids"]),
        subtype_ids=frozenset(row["subtype_ids"]),
        tenants=tuple(row["tenants"]),
        tenant_id=row["tenant_id"],
        category_id=row["category_id"],
    )
