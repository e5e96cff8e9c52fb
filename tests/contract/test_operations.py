"""Every operation of the contract, once through the SDK and once as raw HTTP, in both dialects; and refused where it must be."""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import quote, urlencode

import httpx
import pytest
import pytest_asyncio
from operation_samples import SAMPLES, Fields, params, wire, wrong_fields
from pydantic import TypeAdapter
from server_support import BASE64, JSON, Server, process_resources, server

import dominus
from dominus import Dominus
from dominus.contract import operations
from dominus.contract.kinds import Auth
from dominus.contract.operation import Operation
from dominus.names import METHOD_OF
from dominus.orchestrator.http import openapi
from dominus.orchestrator.services import handlers_by_operation
from dominus.orchestrator.serving.in_process import EmbeddedTransport

__all__ = ["process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_MASKED = {"migration_version", "access_token", "latency_ms", "created_at", "updated_at"}
EVERY = sorted(operations())
ERRORS = Path(dominus.errors.__file__).read_text(encoding="utf-8")


def comparable(value: Any, tag: str, name: str = "") -> Any:
    """What is the same in each answer: typed values as the text they travel as, no tags, no times."""
    if name in _MASKED:
        return type(value).__name__
    if isinstance(value, dict):
        return {comparable(key, tag): comparable(item, tag, key) for key, item in value.items()}
    if isinstance(value, list):
        return [comparable(item, tag) for item in value]
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, (Decimal, uuid.UUID)):
        return str(value)
    return value.replace(tag, "TAG") if isinstance(value, str) else value


class OtherServer(httpx.AsyncBaseTransport):
    """Answers as a server of the published client does: it says nothing of plain JSON."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.kinds: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.kinds.add(request.headers["content-type"])
        answer = await self.inner.handle_async_request(request)
        answer.headers.pop("dominus-wire", None)
        return answer


class Borrowed(httpx.AsyncBaseTransport):
    """A transport that a client may close, and the app goes on."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.inner.handle_async_request(request)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: Server) -> AsyncIterator[Dominus]:
    transport = Borrowed(EmbeddedTransport(server.app))
    async with Dominus(url="http://dominus.test", token=server.psk, transport=transport) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def base64_client(server: Server) -> AsyncIterator[Dominus]:
    transport = OtherServer(EmbeddedTransport(server.app))
    async with Dominus(url="http://dominus.test", token=server.psk, transport=Borrowed(transport)) as made:
        yield made
        assert transport.kinds == {BASE64}


def request_of(op: Operation[Any, Any], fields: Fields) -> tuple[str, Fields]:
    """Return the path, and the fields of the body."""
    values = {name: quote(str(fields[name]), safe="") for name in op.path_fields}
    path = op.path.format(**values)
    return path, {name: value for name, value in fields.items() if name not in op.path_fields}


def named_of(op: Operation[Any, Any], wire_name: str) -> str:
    """Return what errors call a field: the name of the SDK's parameter."""
    field_of = op.request.model_fields.get(wire_name)
    return (field_of.title if field_of else None) or wire_name


def credential(server: Server, op: Operation[Any, Any]) -> str | None:
    return {
        Auth.TOKEN: server.token(),
        Auth.PSK: server.psk,
        Auth.SESSION: server.session_token("postgres"),
        Auth.NONE: None,
    }[op.auth]


async def ask(server: Server, op: Operation[Any, Any], fields: Fields, kind: str = JSON, **more: Any) -> Any:
    fields = dict(fields)
    user_token = fields.pop("user_token", None)
    path, body = request_of(op, fields)
    if op.method == "GET" and body:
        path = f"{path}?{urlencode(body)}"
    more.setdefault("token", user_token or credential(server, op))
    more.setdefault("address", op.name)  # too many refused tokens from one address are refused otherwise
    return await server(op.method, path, b"" if op.method == "GET" else body, kind=kind, **more)


async def test_every_operation_has_a_sample_a_method_a_handler_and_an_openapi_entry(server: Server) -> None:
    known = operations()
    assert SAMPLES.keys() == known.keys()
    assert known.keys() <= handlers_by_operation().keys()
    assert server.resources
    client = Dominus(url="http://dominus.test", token="x" * 43)
    paths = openapi.document()["paths"]
    for name, op in known.items():
        method: Any = client
        for part in METHOD_OF.get(name, name).split("."):
            method = getattr(method, part)
        assert callable(method), name
        assert method.__doc__, name
        assert paths[op.path][op.method.lower()]["x-operations"][name]["scope"] == op.scope


@pytest.mark.parametrize("name", EVERY)
async def test_an_operation_gives_the_same_over_sdk_and_http_in_both_dialects(
    name: str, server: Server, client: Dominus, base64_client: Dominus
) -> None:
    op, sample = operations()[name], SAMPLES[name]
    results: dict[str, Any] = {}
    for way in ("sdk", "sdk base64", JSON, BASE64):
        tag = uuid.uuid4().hex[:12]
        fields = wire(op, tag)
        more: Fields = {}
        if sample.before is not None:
            more = await sample.before(client, {"tag": tag, **fields}) or {}
            fields |= more
        if way.startswith("sdk"):
            asked = client if way == "sdk" else base64_client
            found = await (sample.sdk(asked, fields) if sample.sdk else asked(name, **params(op, tag) | more))
        else:
            reply = await ask(server, op, fields, way)
            assert reply.status == 200, reply.document
            data = reply.document if op.is_plain else reply.data
            check_shape(op, data)
            found = sample.read(data)
        results[way] = comparable(sample.shape(found, tag), tag)
    expected = results["sdk"] if sample.expected is ... else sample.expected
    assert results == dict.fromkeys(results, expected)
    assert expected is not None


async def test_the_codes_of_an_operation_are_codes_of_the_server_and_documented() -> None:
    root = Path(dominus.__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in (root / "orchestrator").rglob("*.py"))
    documented = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    for op in operations().values():
        assert [code for code in op.codes if f'"{code}"' not in source + ERRORS] == [], op.name
        assert [code for code in op.errors if f"`{code}`" not in documented] == [], op.name


def check_shape(op: Operation[Any, Any], data: Any) -> None:
    """The answer is what the operation declares: nothing missing, nothing that is not declared."""
    TypeAdapter(op.result).validate_python(data)
    if op.is_list:
        return
    assert op.required_keys <= data.keys()
    declared = getattr(op.result, "__annotations__", None)
    if declared:
        assert data.keys() <= get_type_hints(op.result).keys(), op.name


@pytest.mark.parametrize("kind", [JSON, BASE64])
@pytest.mark.parametrize("name", EVERY)
async def test_an_operation_is_refused_without_token_scope_or_sense(
    name: str, kind: str, server: Server
) -> None:
    op = operations()[name]
    fields = wire(op, "missing")

    if op.auth is not Auth.NONE:
        nobody = await ask(server, op, fields, kind, token=None)
        assert (nobody.status, nobody.code) == (401, "token_missing")
        # Neither takes the other's credential: a PSK is no token, a token no PSK.
        other = server.psk if op.auth is Auth.TOKEN else server.token()
        assert (await ask(server, op, fields, kind, token=other)).status == 401

    if op.scope is not None:
        verb = {"read": "write", "write": "read", "admin": "write"}[op.scope.rpartition(":")[2]]
        weak = server.token(f"{op.scope.partition(':')[0]}:{verb}", "other:admin")
        denied = await ask(server, op, fields, kind, token=weak)
        assert (denied.status, denied.code) == (403, "authorization")
        assert denied.document["details"] == {"scope": op.scope}

    path, body = request_of(op, fields)
    wrong = wrong_fields(op)
    if op.method == "GET":
        path, body, wrong = f"{path}?bogus_field=1", {}, {}
    token = credential(server, op)
    for asked in ({**body, "bogus_field": 1}, {**body, **wrong} if wrong else None):
        if asked is None:
            continue
        content: Any = b"" if op.method == "GET" else asked
        refused = await server(op.method, path, content, kind=kind, token=token)
        answered = refused.headers["content-type"].split(";")[0]
        assert (refused.status, answered) == (400, JSON if op.is_plain else kind), refused.body
        assert (
            named_of(op, "bogus_field" if op.method == "GET" or "bogus_field" in asked else next(iter(wrong)))
            in (refused.document["error"])
        )


async def test_an_enveloped_answer_is_base64_of_json_to_those_who_ask_in_base64(server: Server) -> None:
    reply = await server("GET", "/api/health/ping", kind=BASE64)
    assert json.loads(base64.b64decode(reply.body)) == {"success": True, "data": {"status": "ok"}}
    assert reply.headers["content-type"].startswith("text/plain")
