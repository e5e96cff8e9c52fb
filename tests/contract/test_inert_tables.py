"""After which writes a connection need not be cleaned at once: those that run nothing that users made."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pg_support import Caller, call, pg_dsn, postgres

__all__ = ["call", "pg_dsn", "postgres"]

PLAIN = """id bigserial PRIMARY KEY, other bigint GENERATED ALWAYS AS IDENTITY, state text NOT NULL DEFAULT 'it''s (new)',
  n numeric(9,2) DEFAULT 1.50, made timestamptz DEFAULT now(), day date DEFAULT CURRENT_DATE, u uuid DEFAULT gen_random_uuid(),
  is_open boolean DEFAULT true, tags text[] DEFAULT '{}', j jsonb DEFAULT '{"a": 1}', s varchar(9) DEFAULT 'x', e text UNIQUE"""


async def is_inert_to_writes(call: Caller, *statements: str) -> bool:
    for statement in statements:
        await call.sql(statement)
    return (await (await call.catalog.listening()).table("public", "t")).is_inert_to_writes


@pytest.fixture
async def made_by_users(call: Caller) -> AsyncIterator[None]:
    for statement in (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE FUNCTION g() RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$",
        "CREATE FUNCTION public.now() RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$",
        "CREATE DOMAIN d AS integer CHECK (VALUE > 0)",
        "CREATE TABLE p (id bigint PRIMARY KEY)",
    ):
        await call.sql(statement)
    yield
    await call.sql("DROP FUNCTION f(), g(), public.now() CASCADE")
    await call.sql("DROP DOMAIN d CASCADE")


async def test_a_plain_table_runs_nothing_of_users(call: Caller):
    assert await is_inert_to_writes(call, f"CREATE TABLE t ({PLAIN})")


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE t ADD CHECK (n > 0)",
        "ALTER TABLE t ADD FOREIGN KEY (other) REFERENCES p",
        "ALTER TABLE t ALTER state SET DEFAULT g()",
        "ALTER TABLE t ALTER state SET DEFAULT now()",
        "ALTER TABLE t ALTER state SET DEFAULT public.now()",
        "ALTER TABLE t ALTER state SET DEFAULT set_config('role', 'none', false)",
        "ALTER TABLE t ALTER state SET DEFAULT query_to_xml('SELECT g()', true, true, '')::text",
        "ALTER TABLE t ALTER state SET DEFAULT 'a' || g()",
        "ALTER TABLE t ADD twice text GENERATED ALWAYS AS (state || state) STORED",
        "ALTER TABLE t ADD d d",
        "CREATE INDEX ON t (lower(state))",
        "CREATE RULE r AS ON INSERT TO t DO ALSO SELECT g()",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    ],
)
@pytest.mark.usefixtures("made_by_users")
async def test_a_table_with_something_computed_does_not_count_as_plain(call: Caller, change: str):
    is_builtin_now = change.endswith("DEFAULT now()")
    assert await is_inert_to_writes(call, f"CREATE TABLE t ({PLAIN})", change) == is_builtin_now
