"""One request as ASGI delivers it, and the answer as ASGI takes it."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dominus.contract.envelope import BYTES, JSON_LINES, MAX_DEADLINE_SECONDS, Dialect
from dominus.contract.operation import Operation
from dominus.errors import ValidationError
from dominus.orchestrator.http.body import BodyReader, Receive
from dominus.orchestrator.identity.principal import Principal

__all__ = ["Exchange", "Scope", "Send", "address_of", "deadline_of", "query_of", "time_limit_of"]

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_REQUEST_SECONDS = 3600.0
"""What a request may take that names no deadline: bulk loads take their time, statements have their own limit."""
_JSON_LINES, _BYTES = JSON_LINES.encode(), BYTES.encode()
_ANYONE = Principal(subject="anonymous", use="anonymous", scopes=frozenset())


class Exchange:
    """One request and what is known of it by now."""

    __slots__ = (
        "body",
        "dialect",
        "headers",
        "is_bytes",
        "is_raw",
        "is_stream",
        "operation",
        "path",
        "principal",
        "request_id",
        "scope",
    )

    def __init__(self, scope: Scope, receive: Receive, limit: int, least_rate: int = 0) -> None:
        self.scope = scope
        headers: dict[bytes, bytes] = dict(scope["headers"])
        self.headers = headers
        raw: bytes | None = scope.get("raw_path")
        self.path: str = raw.decode("latin-1").partition("?")[0] if raw else scope["path"]
        given = headers.get(b"x-request-id", b"")
        is_usable = 0 < len(given) <= 64 and given.replace(b"-", b"").isalnum()
        self.request_id = given.decode() if is_usable else secrets.token_hex(8)
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        self.dialect = Dialect.BASE64 if kind == b"text/plain" else Dialect.JSON
        self.is_stream = kind == _JSON_LINES
        self.is_bytes = kind == _BYTES
        """The body is bytes, if its operation takes such."""
        self.is_raw = False
        """The answer is bytes."""
        self.body = BodyReader(receive, self.header(b"content-length"), limit, least_rate)
        self.principal = _ANYONE
        self.operation: Operation[Any, Any] | None = None

    def header(self, name: bytes) -> str | None:
        """Return a header by its lower-case name."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def refuse_repeated(self, *names: bytes) -> None:
        """Refuse a request in which one of these headers occurs twice: a proxy may have believed the other one.

        Raises:
            ValidationError: one does.
        """
        sent: list[tuple[bytes, bytes]] = self.scope["headers"]
        if len(sent) == len(self.headers):
            return
        for name in names:
            if sum(name == other for other, _ in sent) > 1:
                raise ValidationError(f"{name.decode()}: is sent more than once", code="repeated_header")


def address_of(exchange: Exchange) -> str:
    """Return where a request came from, as rate limits name it."""
    client = exchange.scope.get("client")
    return f"address:{client[0]}" if client else "address:local"


def deadline_of(exchange: Exchange) -> float:
    """Return the seconds in which the caller waits for an answer, and may send the request again."""
    given = exchange.header(b"dominus-deadline-ms")
    if given is None or not given.isdecimal():
        return MAX_REQUEST_SECONDS
    return min(int(given[:12]) / 1000, MAX_DEADLINE_SECONDS)


def time_limit_of(exchange: Exchange) -> float:
    """Return the seconds that a request may take."""
    return min(deadline_of(exchange), MAX_REQUEST_SECONDS)


def query_of(scope: Scope) -> dict[str, Any]:
    """Return the fields of a query string.

    Raises:
        ValidationError: it is malformed.
    """
    raw: bytes = scope.get("query_string", b"")
    if not raw:
        return {}
    from urllib.parse import parse_qsl

    try:
        return dict(
            parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
        )
    except (ValueError, UnicodeDecodeError):
        raise ValidationError("the query string is malformed", code="bad_query") from None
