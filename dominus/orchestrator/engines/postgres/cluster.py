"""The roles of the embedded PostgreSQL: its owner is no superuser, and its superuser cannot log in.

What only a superuser may do is done by PostgreSQL's single-user mode, before the server starts: no password opens it,
and nothing that a session makes can reach it.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from dominus.orchestrator.engines.postgres.account import Account
from dominus.orchestrator.engines.postgres.process import run_program
from dominus.orchestrator.engines.postgres.scram import scram_verifier
from dominus.orchestrator.home import write_private

__all__ = ["DATABASE", "SUPERUSER", "USER", "make_owner", "take_from_superuser"]

logger = logging.getLogger("dominus.postgres")

USER = DATABASE = "dominus"
SUPERUSER = "postgres"
_MARK = "owner"
"""A file beside the cluster's data: the owner is no superuser."""
_LIST = "dominus_databases"

# pg_use_reserved_connections: sessions, which have logins of their own, cannot use up all connections.
# pg_signal_backend: to end the connections of a session's login, and of a database that is to be dropped.
# pg_read_all_stats: to see in pg_stat_activity what the others do.
_OWNER = """
CREATE ROLE {user} LOGIN CREATEROLE CREATEDB NOSUPERUSER NOREPLICATION NOBYPASSRLS PASSWORD '{verifier}';

GRANT pg_signal_backend, pg_read_all_stats TO {user};

GRANT pg_use_reserved_connections TO {user} WITH ADMIN OPTION;

ALTER ROLE {superuser} NOLOGIN PASSWORD NULL;

"""
_DATABASE = """
CREATE DATABASE {database} OWNER {user};

"""
# Homes of earlier versions: there the owner was the superuser that initdb makes, who cannot cease to be one, and who
# can be renamed by another only. Each step may find that it was done before: an interrupted start does all again.
_RENAME = """
DO $$ BEGIN
  IF (SELECT rolname FROM pg_authid WHERE oid = 10) = '{user}' THEN
    IF NOT EXISTS (SELECT FROM pg_authid WHERE rolname = 'dominus_renaming') THEN
      CREATE ROLE dominus_renaming SUPERUSER;
    END IF;
    SET SESSION AUTHORIZATION dominus_renaming;
    ALTER ROLE {user} RENAME TO {superuser};
  END IF;
END $$;

SET SESSION AUTHORIZATION {superuser};

DROP ROLE IF EXISTS dominus_renaming;

DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_authid WHERE rolname = '{user}') THEN
    CREATE ROLE {user};
  END IF;
END $$;

ALTER ROLE {user} LOGIN CREATEROLE CREATEDB NOSUPERUSER NOREPLICATION NOBYPASSRLS PASSWORD '{verifier}';

GRANT pg_signal_backend, pg_read_all_stats TO {user};

GRANT pg_use_reserved_connections TO {user} WITH ADMIN OPTION;

ALTER ROLE {superuser} NOLOGIN PASSWORD NULL;

DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT rolname FROM pg_authid WHERE oid >= 16384 AND rolname <> '{user}' AND NOT rolsuper LOOP
    EXECUTE format('GRANT %I TO {user} WITH ADMIN TRUE, INHERIT FALSE, SET TRUE', name);
  END LOOP;
  FOR name IN SELECT datname FROM pg_database WHERE datdba = 10 AND NOT datistemplate AND datname <> '{superuser}' LOOP
    EXECUTE format('ALTER DATABASE %I OWNER TO {user}', name);
  END LOOP;
END $$;

COPY (SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate) TO '{list}';

"""
# Of what an extension made the superuser stays the owner. A sequence of a column goes with its table.
_REASSIGN = """
DO $$ DECLARE statement text; BEGIN
  FOR statement IN
    SELECT format('ALTER SCHEMA %I OWNER TO {user}', nspname)
    FROM pg_namespace
    WHERE nspowner = 10 AND oid >= 16384
    UNION ALL
    SELECT format('ALTER TABLE %s OWNER TO {user}', c.oid::regclass)
    FROM pg_class c
    WHERE c.relowner = 10 AND c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
        AND (d.deptype IN ('e', 'i') OR c.relkind = 'S' AND d.deptype = 'a'))
    UNION ALL
    SELECT format('ALTER ROUTINE %s OWNER TO {user}', p.oid::regprocedure)
    FROM pg_proc p
    WHERE p.proowner = 10 AND p.oid >= 16384
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
        AND d.deptype IN ('e', 'i'))
    UNION ALL
    SELECT format('ALTER TYPE %s OWNER TO {user}', t.oid::regtype)
    FROM pg_type t
    LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE t.typowner = 10 AND t.oid >= 16384 AND (t.typtype IN ('d', 'e', 'r') OR c.relkind = 'c')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid
        AND d.deptype IN ('e', 'i'))
    UNION ALL
    SELECT format('ALTER LARGE OBJECT %s OWNER TO {user}', oid)
    FROM pg_largeobject_metadata
    WHERE lomowner = 10
  LOOP
    EXECUTE statement;
  END LOOP;
END $$;

"""


def make_owner(
    cluster: Path, data: Path, programs: Path, account: Account, password: str, fsync: str
) -> None:
    """Make the owner and its database in a new cluster, and shut its superuser out. Blocks.

    Raises:
        ServiceError: PostgreSQL refused.
    """
    statements = _OWNER.format(**_names(password)) + _DATABASE.format(**_names(password))
    _single(data, programs, account, "postgres", statements, fsync)
    write_private(cluster / _MARK, USER)


def take_from_superuser(
    cluster: Path, data: Path, programs: Path, account: Account, password: str, fsync: str
) -> None:
    """Give a cluster of an earlier version an owner who is no superuser; one that has it is left alone. Blocks.

    Raises:
        ServiceError: PostgreSQL refused; the next start tries again.
    """
    if (cluster / _MARK).exists():
        return
    logger.warning("%s: its owner was a superuser, and ceases to be one", cluster)
    account.take(data)
    databases = data / _LIST
    _single(data, programs, account, "postgres", _RENAME.format(**_names(password), list=databases), fsync)
    for name in databases.read_text(encoding="utf-8").splitlines():
        _single(data, programs, account, name, _REASSIGN.format(user=USER), fsync)
    databases.unlink()
    write_private(cluster / _MARK, USER)


def _names(password: str) -> dict[str, str]:
    verifier = scram_verifier(password, os.urandom(16))
    return {"user": USER, "superuser": SUPERUSER, "database": DATABASE, "verifier": verifier}


def _single(data: Path, programs: Path, account: Account, database: str, statements: str, fsync: str) -> None:
    # -j: a statement ends with a semicolon and an empty line. search_path: what users made in `public` must not stand
    # in for what the superuser calls.
    settings = {"exit_on_error": "on", "log_checkpoints": "off", "search_path": "pg_catalog", "fsync": fsync}
    options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
    argv = [str(programs / "postgres"), "--single", "-j", "-D", str(data), *options, database]
    run_program(account, argv, stdin=statements.lstrip())
