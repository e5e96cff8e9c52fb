"""A server that says what the test wrote down: a transport for `Dominus(transport=...)`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl

import httpx
from pydantic_core import to_json

from dominus.contract import envelope
from dominus.contract.envelope import WIRE_HEADER, Dialect

__all__ = ["Recorded", "Reply", "ScriptedTransport", "bad_gateway", "failure", "hang", "ok", "raises", "raw"]

MINT_PATH = "/api/warden/mint"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the script; made by `ok`, `failure`, `bad_gateway`, `raw`, `raises` and `hang`."""

    status: int = 200
    document: Any = None
    """The JSON body, sent in the dialect of the request."""
    content: bytes | AsyncIterator[bytes] | None = None
    """The body as it is, instead of a document."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    error: BaseException | None = None
    """Raised instead of an answer."""
    is_endless: bool = False
    """No answer ever comes."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request that was sent."""

    method: str
    path: str
    query: dict[str, str]
    headers: httpx.Headers
    body: Any
    """The decoded JSON; None without a body, and for streamed rows, which stand in `content`."""
    content: bytes
    dialect: Dialect

    @property
    def bearer(self) -> str:
        """The token it carried, or an empty text."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")


Step = Reply | Callable[[Recorded], Reply]
"""An answer, or a function that makes it from the request."""


def ok(
    data: Any = None, *, types: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """Answer 200 with `data` in the envelope; `types` are the column types that JSON cannot say."""
    document: dict[str, Any] = {"success": True, "data": {} if data is None else data}
    if types is not None:
        document["types"] = dict(types)
    return Reply(200, document, headers=headers or {})


def failure(
    status: int,
    message: str = "it failed",
    *,
    code: str | None = None,
    details: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Answer an error status with a message, as a Dominus server does."""
    document = {"success": False, "error": message, "code": code, "details": details, "request_id": "req-1"}
    return Reply(status, document, headers=headers or {})


def bad_gateway(status: int = 502, *, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer the page of a proxy whose server is asleep or away; a Dominus server that answers is awake."""
    page = f"<html><body><h1>{status}</h1></body></html>".encode()
    return Reply(
        status, content=page, headers={"content-type": "text/html", WIRE_HEADER: "", **(headers or {})}
    )


def raw(
    content: bytes | AsyncIterator[bytes], status: int = 200, *, headers: Mapping[str, str] | None = None
) -> Reply:
    """Answer with these very bytes: a broken body, a web page, a stream."""
    return Reply(status, content=content, headers=headers or {})


def raises(error: BaseException) -> Reply:
    """Raise instead of answering, for example `httpx.ConnectError("refused")`."""
    return Reply(error=error)


def hang() -> Reply:
    """Never answer; only a deadline or a cancellation ends the call."""
    return Reply(is_endless=True)


class ScriptedTransport(httpx.AsyncBaseTransport):
    """Answers from a script and keeps what was asked.

    The mint answers by itself with tokens `token-1`, `token-2` ...; `mints` scripts it.

        transport = ScriptedTransport(failure(503), ok({"found": True, "value": 1}))
        client = Dominus("http://dominus.test", "x" * 43, transport=transport, clock=MovableClock(auto=True))
        assert await client.redis.get("k") == 1

    Args:
        steps: the answers, in order; each is a Reply or a function of the request.
        mints: answers of the mint before it works by itself.
        default: what is answered when the script has ended; without it the test fails with an AssertionError.
        is_foreign: behave as a server of the published client: base64 only, no `Dominus-Wire` header.
        token_lifetime: seconds that the mint promises.

    Attributes:
        requests: everything that was sent.
    """

    def __init__(
        self,
        *steps: Step,
        mints: tuple[Step, ...] = (),
        default: Step | None = None,
        is_foreign: bool = False,
        token_lifetime: float = 900,
    ) -> None:
        self.requests: list[Recorded] = []
        self.default = default
        self.is_foreign = is_foreign
        self.is_closed = False
        self._steps = list(steps)
        self._mints = list(mints)
        self._lifetime = token_lifetime
        self._minted_count = 0

    @property
    def calls(self) -> list[Recorded]:
        """The requests that were no mint."""
        return [request for request in self.requests if not _is_mint(request)]

    @property
    def mints(self) -> list[Recorded]:
        """The requests to the mint."""
        return [request for request in self.requests if _is_mint(request)]

    def then(self, *steps: Step) -> None:
        """Lengthen the script."""
        self._steps.extend(steps)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer the next step."""
        recorded = _record(request, await request.aread())
        self.requests.append(recorded)
        step = self._next(recorded)
        reply = step if isinstance(step, Reply) else step(recorded)
        # A real wire gives the other tasks a turn, and so does this one.
        await asyncio.sleep(0)
        if reply.error is not None:
            raise reply.error
        if reply.is_endless:
            await asyncio.get_running_loop().create_future()
        return self._response(request, recorded, reply)

    def _next(self, recorded: Recorded) -> Step:
        if _is_mint(recorded):
            if self._mints:
                return self._mints.pop(0)
            self._minted_count += 1
            return ok(
                {
                    "access_token": f"token-{self._minted_count}",
                    "token_type": "Bearer",
                    "expires_in": self._lifetime,
                }
            )
        if self._steps:
            return self._steps.pop(0)
        if self.default is None:
            raise AssertionError(
                f"the script has no answer left for {recorded.method} {recorded.path}: {recorded.body}"
            )
        return self.default

    def _response(self, request: httpx.Request, recorded: Recorded, reply: Reply) -> httpx.Response:
        content = reply.content
        headers = {"content-type": recorded.dialect.value, **reply.headers}
        if content is None:
            content = envelope.encode(to_json(reply.document), recorded.dialect)
        if not self.is_foreign:
            headers.setdefault(WIRE_HEADER, "json")
        return httpx.Response(reply.status, headers=headers, content=content, request=request)

    async def aclose(self) -> None:
        """Note that the client closed it."""
        self.is_closed = True


def _is_mint(request: Recorded) -> bool:
    body = request.body
    fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    return request.path == MINT_PATH and fields.get("method") == "auth.self"


def _record(request: httpx.Request, content: bytes) -> Recorded:
    kind = request.headers.get("content-type", "")
    dialect = Dialect.BASE64 if kind.startswith(Dialect.BASE64.value) else Dialect.JSON
    is_document = bool(content) and kind != envelope.JSON_LINES
    return Recorded(
        method=request.method,
        path=request.url.raw_path.decode("ascii").partition("?")[0],
        query=dict(parse_qsl(request.url.query.decode("ascii"), keep_blank_values=True)),
        headers=request.headers,
        body=envelope.decode(content, dialect) if is_document else None,
        content=content,
        dialect=dialect,
    )
