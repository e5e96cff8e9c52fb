"""A real PostgreSQL for the tests of scribe and smith: one server a session, an empty database for each test."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pg_keys import keys

from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres
from dominus.orchestrator.engines.postgres.fair_share import FairShare
from dominus.orchestrator.engines.postgres.pools import Postgres
from dominus.orchestrator.handlers.context import Context, Idempotency, RawJson
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.identity.rights import RightsOf
from dominus.orchestrator.settings import ServerSettings
from dominus.orchestrator.sql.catalog import Catalog

_CLEAN = """
DO $$
DECLARE name text;
BEGIN
  FOR name IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^pg_|^dominus|^information'
  LOOP
    EXECUTE 'DROP TABLE IF EXISTS ' || name || ' CASCADE';
  END LOOP;
  FOR name IN SELECT format('%I.%I', n.nspname, t.typname) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = 'public' AND t.typtype IN ('e', 'd')
  LOOP
    EXECUTE 'DROP TYPE ' || name || ' CASCADE';
  END LOOP;
END $$
"""


@pytest.fixture(scope="session")
def pg_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "home", is_durable=False)
    yield server.start()
    server.stop()


@pytest.fixture
async def postgres(pg_dsn: str) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(pg_dsn, ServerSettings(pool_size=12), keys())
    await opened.data.execute(_CLEAN)
    await opened.system.execute("TRUNCATE dominus.outcomes")
    yield opened
    await opened.aclose()


class _Prints:
    """What the vault is asked for."""

    @staticmethod
    def fingerprint(*parts: bytes) -> str:
        return hashlib.sha256(repr(parts).encode()).hexdigest()


class Caller:
    """Makes contexts, as the app does for requests."""

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        self.catalog = Catalog(postgres)
        self._numbers = itertools.count()

    def __call__(
        self, key: str | None = None, body: str = "body", project: str = "default", **more: Any
    ) -> Context:
        shares = {
            "data_share": _share(),
            "bulk_share": _share(),
            "secure_share": _share(),
            "settings": ServerSettings(pool_size=12),
        }
        made = SimpleNamespace(
            postgres=self.postgres,
            catalog=self.catalog,
            rights=RightsOf(self.postgres),
            vault=_Prints,
            **shares,
        )
        engines = cast("Any", made)
        principal = Principal("tester", "service", frozenset({"*"}), project=project)
        idempotency = Idempotency(key, body) if key else None
        return Context(principal, engines, f"r{next(self._numbers)}", idempotency, **more)

    async def sql(self, statement: str, *args: Any) -> list[Any]:
        """Run a statement as users' statements run."""
        async with self.postgres.data.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL search_path = public")
            return cast("list[Any]", await connection.fetch(statement, *args))


@pytest.fixture
def call(postgres: Postgres) -> Caller:
    return Caller(postgres)


@pytest.fixture
async def clean_ddl(postgres: Postgres) -> None:
    """No schema, migration, tenant or category of the test before."""
    for row in await postgres.system.fetch("SELECT nspname FROM pg_namespace WHERE nspname ~ '^tenant_'"):
        await postgres.system.execute(f'DROP SCHEMA "{row["nspname"]}" CASCADE')
    await postgres.system.execute(
        "TRUNCATE dominus.ddl_schemas, dominus.ddl_migrations, dominus.ddl_tickets, dominus.tenants,"
        " dominus.tenant_categories CASCADE"
    )


def data_of(answer: Any) -> Any:
    """Read an answer as the client does."""
    from pydantic_core import from_json

    from dominus.contract.values import restore_rows

    if not isinstance(answer, RawJson):
        return answer
    data = from_json(answer)
    if answer.types:
        restore_rows(data.get("items", [data]), from_json(answer.types))
    return data


def _share() -> FairShare:
    return FairShare(100, wait_seconds=10, what="connections")
