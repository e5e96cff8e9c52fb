"""An orchestrator in this process, asked by bare ASGI messages: what no HTTP client would send can be sent too."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import pytest
import pytest_asyncio

from dominus.contract import operations
from dominus.errors import DominusError
from dominus.orchestrator.handlers.resources import Resources
from dominus.orchestrator.http.app import Orchestrator
from dominus.orchestrator.http.routing import Routes
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.serving.assembly import ProcessResources, open_process_resources, open_resources
from dominus.orchestrator.settings import ServerSettings

ROUTES = Routes(operations().values())
JSON, BASE64, LINES = "application/json", "text/plain", "application/x-ndjson"
GONE = object()
"""Among the chunks of a body: the client hangs up here."""


@dataclass(frozen=True)
class Reply:
    """An answer as it was sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The JSON of the body, in the dialect that the content type names."""
        is_base64 = self.headers["content-type"].startswith(BASE64)
        return json.loads(base64.b64decode(self.body, validate=True) if is_base64 else self.body)

    @property
    def data(self) -> Any:
        assert self.status == 200, self.document
        return self.document["data"]

    @property
    def code(self) -> str:
        assert self.status >= 400, self.body
        assert self.document["success"] is False
        return self.document["code"]


Body = bytes | dict[str, Any] | list[Any] | Iterable[Any] | AsyncIterator[Any]


@dataclass
class Server:
    """Asks one app."""

    app: Orchestrator
    psk: str

    @property
    def resources(self) -> Resources:
        return self.app.resources

    def token(self, *scopes: str, subject: str = "service:root", project: str = "default") -> str:
        """Mint a token; without scopes it may do everything."""
        principal = Principal(subject, "service", frozenset(scopes or ("*",)), project)
        return self.resources.tokens.mint(principal)

    def session_token(self, target: str, *, seconds: int = 60, subject: str = "service:root") -> str:
        """Mint a token for the gateway."""
        principal = Principal(subject, "service", frozenset({"*"}))
        return self.resources.tokens.mint_session(principal, target, seconds)

    async def __call__(
        self,
        method: str,
        path: str,
        body: Body = b"",
        *,
        token: str | None = "",
        kind: str | None = JSON,
        headers: dict[str, str] | None = None,
        more_headers: list[tuple[bytes, bytes]] | None = None,
        address: str = "127.0.0.1",
    ) -> Reply:
        """Send one request. Token: "" is root's, None is none. A dict is written in the dialect of `kind`."""
        sent = dict(headers or {})
        if kind is not None:
            sent["content-type"] = kind
        if token is not None:
            sent["authorization"] = f"Bearer {token or self.token()}"
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            body = base64.b64encode(body) if kind is not None and kind.startswith(BASE64) else body
        if isinstance(body, bytes):
            body = [body]
        raw, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": unquote(raw),
            "raw_path": raw.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "root_path": "",
            "headers": [
                *((name.lower().encode(), value.encode("latin-1")) for name, value in sent.items()),
                *(more_headers or ()),
            ],
            "client": (address, 1),
            "server": ("testserver", 80),
        }
        answer: list[Any] = []

        async def send(message: Any) -> None:
            answer.append(message)

        await self.app(scope, _receive(body), send)
        if not answer:
            return Reply(0, {}, b"")
        got = {name.decode(): value.decode("latin-1") for name, value in answer[0]["headers"]}
        reply = Reply(answer[0]["status"], got, b"".join(part.get("body", b"") for part in answer[1:]))
        _check_code(method, raw, reply)
        return reply


def _check_code(method: str, path: str, reply: Reply) -> None:
    """A mistake of the caller is answered with a code that its operation declares."""
    if not 400 <= reply.status < 500:
        return
    try:
        match = ROUTES.find(method, path)
    except DominusError:
        return
    declared = frozenset().union(*(op.codes for op in match.operations))
    assert reply.code in declared, f"{match.operations[0].name} does not declare {reply.code!r}"


def _receive(body: Any) -> Callable[[], Awaitable[Any]]:
    async def messages() -> AsyncIterator[Any]:
        source = body if hasattr(body, "__aiter__") else _each(body)
        held: Any = None
        async for chunk in source:
            if held is not None:
                yield {"type": "http.request", "body": held, "more_body": True}
            if chunk is GONE:
                yield {"type": "http.disconnect"}
                return
            held = chunk
        yield {"type": "http.request", "body": held or b"", "more_body": False}
        await asyncio.Event().wait()

    stream = messages()
    pending: list[asyncio.Task[Any]] = []

    async def receive() -> Any:
        # As with a socket, giving up waiting for a message loses none.
        if not pending:
            pending.append(asyncio.ensure_future(anext(stream)))
        message = await asyncio.shield(pending[0])
        pending.clear()
        return message

    return receive


async def _each(chunks: Iterable[Any]) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


@pytest.fixture(scope="module")
def process_resources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessResources]:
    home = tmp_path_factory.mktemp("orchestrator") / "home"
    laid = open_process_resources(
        ServerSettings(home=home, is_durable=False, database_url=None, redis_url=None), "tests"
    )
    yield laid
    laid.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(process_resources: ProcessResources) -> AsyncIterator[Server]:
    app = Orchestrator(lambda: open_resources(process_resources))
    await app.start()
    yield Server(app, process_resources.root_token)
    await app.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def make_server(process_resources: ProcessResources) -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    """`await make_server(rate_limit=1.0, ...)`: another orchestrator on the same engines, with other settings."""
    started: list[Orchestrator] = []

    async def make(**changed: Any) -> Server:
        other = replace(process_resources, settings=process_resources.settings.model_copy(update=changed))
        app = Orchestrator(lambda: open_resources(other))
        await app.start()
        started.append(app)
        return Server(app, process_resources.root_token)

    yield make
    for app in started:
        await app.stop()
