"""A PostgreSQL client's first message, read before the server sees it.

Who logs in how is `pg_hba.conf`'s to say, and where that trusts the orchestrator's machine, a session could say that it
is the owner. So only a login of the session's own passes, to its one database.
"""

from __future__ import annotations

import re
import shlex
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from dominus.errors import AuthorizationError, ValidationError

if TYPE_CHECKING:
    from dominus.orchestrator.gateway.upstream.targets import Client
    from dominus.orchestrator.identity.principal import Principal

__all__ = ["StartupScreen", "read_startup"]

MAX_STARTUP_BYTES = 10_000
"""PostgreSQL's own limit."""
MAX_CANCEL_BYTES = 272
"""Length, code, process and, since protocol 3.2, a key of up to 256 bytes."""
MOST_MESSAGES = 3
"""A client may ask for TLS, then for GSSAPI, then begin."""
_CANCEL, _TLS, _GSSAPI = 80877102, 80877103, 80877104
_PROTOCOL = 3
_NO = b"N"
_SETTING = re.compile(r"(--|-c\s*)(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)=.*", re.DOTALL)
# The login's own are made for it, and libraries have no place in a session.
_REFUSED_SETTINGS = frozenset(
    {
        *("replication", "role", "session_authorization", "ignore_system_indexes", "post_auth_delay"),
        *("session_preload_libraries", "local_preload_libraries", "shared_preload_libraries"),
    }
)
_STATES = {
    "bad_startup": "08P01",
    "startup_refused": "28000",
    "handshake_timeout": "08006",
    "draining": "57P01",
    "internal": "XX000",
}

FindDatabase = Callable[["Principal", str], Awaitable[str | None]]
"""Returns the database of a principal's own login; None: it has no such login, or may not use it any more."""


class StartupScreen:
    """Lets a session's own login through to its database, and requests to cancel, which a secret protects."""

    def __init__(self, find_database: FindDatabase) -> None:
        self._find_database = find_database

    async def admit(self, client: Client, principal: Principal) -> None:
        """Return when the client may talk to the server.

        Raises:
            ValidationError: code `bad_startup`: these bytes begin no session of PostgreSQL.
            AuthorizationError: code `startup_refused`.
            ConnectionError: the client hangs up.
        """
        for _ in range(MOST_MESSAGES):
            message = await _message(client)
            (code,) = struct.unpack_from(">I", message, 4)
            if code == _CANCEL and len(message) <= MAX_CANCEL_BYTES:
                return
            if code not in (_TLS, _GSSAPI) or len(message) != 8:
                await self._check(read_startup(message), principal)
                return
            # Up to here the gateway's own TLS protects it, behind it the one that DOMINUS_DATABASE_URL names.
            client.skip(len(message))
            client.answer(_NO)
        raise _bad("it asks for encryption again and again")

    async def _check(self, asked: Mapping[str, str], principal: Principal) -> None:
        for name in asked:
            if name.lower() in _REFUSED_SETTINGS:
                raise _refused(f"a session may not set {name!r} at its start")
        _check_options(asked.get("options", ""))
        user = asked.get("user", "")
        database = await self._find_database(principal, user)
        if database is None:
            raise _refused(
                f"{user[:63]!r} is no login of this session: it was released, has expired, or never was its own"
            )
        if asked.get("database") != database:
            raise _refused(f"the session is for the database {database!r} only")

    def goodbye(self, code: str, message: str) -> bytes:
        """Return a refusal as PostgreSQL says it: a fatal ErrorResponse."""
        fields = {"S": "FATAL", "V": "FATAL", "C": _STATES.get(code, "08004"), "M": f"dominus: {message}"}
        body = b"".join(f"{kind}{text}".encode() + b"\0" for kind, text in fields.items()) + b"\0"
        return b"E" + struct.pack(">I", len(body) + 4) + body


async def _message(client: Client) -> bytes:
    while True:
        heard = client.rest
        if len(heard) >= 8:
            (length,) = struct.unpack_from(">I", heard)
            if not 8 <= length <= MAX_STARTUP_BYTES:
                raise _bad("it has no possible length")
            if len(heard) >= length:
                return heard[:length]
        await client.more()


def read_startup(message: bytes) -> dict[str, str]:
    """Read the parameters of a startup message.

    Raises:
        ValidationError: code `bad_startup`.
    """
    (version,) = struct.unpack_from(">I", message, 4)
    if version >> 16 != _PROTOCOL:
        raise _bad("the protocol is not version 3")
    parts = message[8:].split(b"\0")
    # Name, value, name, value, and an empty name at the end.
    if len(parts) % 2 or any(parts[-2:]):
        raise _bad("its parameters are not whole")
    del parts[-2:]
    try:
        texts = [part.decode() for part in parts]
    except UnicodeDecodeError:
        raise _bad("its parameters are not UTF-8") from None
    names = texts[::2]
    if "" in names or len({name.lower() for name in names}) != len(names):
        raise _bad("a parameter has no name, or is there twice")
    return dict(zip(names, texts[1::2], strict=True))


def _check_options(options: str) -> None:
    """Let settings through, `-c name=value` and `--name=value`, and no other switch of the server."""
    try:
        # PostgreSQL knows no quotes there; a backslash keeps a space.
        lexer = shlex.shlex(options, posix=True, punctuation_chars=False)
        lexer.whitespace_split, lexer.quotes, lexer.commenters = True, "", ""
        words = list(lexer)
    except ValueError:
        raise _bad("its options are not whole") from None
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "-c":
            joined[-1] += word
        else:
            joined.append(word)
    for word in joined:
        found = _SETTING.fullmatch(word)
        if found is None:
            raise _refused("options may be settings only: -c name=value")
        if found["name"].lower().replace("-", "_") in _REFUSED_SETTINGS:
            raise _refused(f"a session may not set {found['name']!r} at its start")


def _bad(why: str) -> ValidationError:
    return ValidationError(f"this is no startup message of PostgreSQL: {why}", code="bad_startup")


def _refused(why: str) -> AuthorizationError:
    return AuthorizationError(why, code="startup_refused")
