"""psycopg's connection, by a unix socket of this session's own: libpq takes no other."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg

from dominus.errors import DominusConnectionError
from dominus.sessions.access import Access
from dominus.sessions.background import run
from dominus.sessions.forward import Forwarder
from dominus.sessions.logins import Logins

__all__ = ["open_connection"]


def open_connection(
    access: Access, database: str | None, options: dict[str, Any], stack: contextlib.ExitStack
) -> psycopg.Connection[Any]:
    """Open a native connection; `stack` closes it and releases its login."""
    logins = Logins(access, database)
    stack.callback(lambda: run(logins.release()))
    login = run(logins.current())
    forwarder = Forwarder(access, "postgres")
    stack.callback(lambda: run(forwarder.close()))
    folder, port = run(forwarder.start_unix())
    native: dict[str, Any] = {
        **options,
        "host": folder,
        "port": port,
        "user": login.username,
        "password": login.password,
        "dbname": login.database,
        "sslmode": "disable",
        "gssencmode": "disable",
    }
    try:
        opened: psycopg.Connection[Any] = psycopg.connect(**native)
    except psycopg.Error as error:
        raise forwarder.error or DominusConnectionError(
            f"PostgreSQL does not answer through the gateway: {error}"
        ) from error
    stack.callback(opened.close)
    return opened
