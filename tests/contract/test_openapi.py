"""The OpenAPI document and the /docs page say what the server does."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import pytest
from openapi_spec_validator import validate
from server_support import JSON, Server, process_resources, server

from dominus.contract import operations
from dominus.contract.kinds import Auth, Retry

__all__ = ["process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


def refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


def body_schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what the document says of an operation's body: on a shared route, the one that its discriminator names."""
    op = operations()[name]
    item = document["paths"][op.path][op.method.lower()]
    schema = item["requestBody"]["content"][JSON]["schema"]
    if op.select is not None and "discriminator" in schema:
        assert schema["discriminator"]["propertyName"] == op.select[0]
        (ref,) = {schema["discriminator"]["mapping"][value] for value in op.select[1]}
        assert {"$ref": ref} in schema["oneOf"]
        schema = {"$ref": ref}
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


async def document_of(server: Server) -> dict[str, Any]:
    reply = await server("GET", "/openapi.json", token=None)
    assert reply.headers["content-type"].startswith(JSON)
    return reply.document


async def test_the_document_is_valid_openapi(server: Server) -> None:
    document = await document_of(server)
    validate(document)
    assert document["openapi"].startswith("3.1")
    components = document["components"]
    known = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses", "parameters")
        for name in components[kind]
    }
    assert known == set(refs(document)), "nothing is missing, and nothing describes what nothing uses"
    items = [item for path in document["paths"].values() for item in path.values()]
    ids = [item["operationId"] for item in items]
    assert len(ids) == len(set(ids))
    tags = {tag["name"] for tag in document["tags"]}
    assert {tag for item in items for tag in item["tags"]} == tags
    for path, by_method in document["paths"].items():
        for method, item in by_method.items():
            assert method in {"get", "post", "put", "delete"}
            named = {one["name"] for one in item["parameters"] if one.get("in") == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert ("requestBody" in item) == (method != "get")
            assert item["summary"]
            assert item["responses"]["200"]["description"]
            assert {"429", "503", "default"} <= item["responses"].keys()


async def test_every_operation_is_described_with_its_scope_and_credential(server: Server) -> None:
    document = await document_of(server)
    paths, components = document["paths"], document["components"]
    described = {name for path in paths.values() for item in path.values() for name in item["x-operations"]}
    assert described == operations().keys()
    for op in operations().values():
        item = paths[op.path][op.method.lower()]
        described_here = item["x-operations"][op.name]
        assert (described_here["scope"], described_here["summary"]) == (op.scope, op.summary)
        assert set(described_here["errors"]) == set(op.errors)
        assert all(f"`{code}`" in item["description"] for code in op.errors)
        assert op.scope is None or f"`{op.scope}`" in item["description"]
        wanted = [] if op.auth is Auth.NONE else [{op.auth.value: []}]
        assert item.get("security", []) == wanted
        assert all(components["securitySchemes"][name]["description"] for need in wanted for name in need)
        assert ("401" in item["responses"]) == (op.auth is not Auth.NONE)
        assert JSON in item["responses"]["200"]["content"]
        assert ("application/x-ndjson" in str(item.get("requestBody"))) == op.is_streamed
        if op.retry is Retry.KEYED:
            assert {"$ref": "#/components/parameters/Idempotency-Key"} in item["parameters"]


async def test_operations_that_share_a_route_are_told_apart_by_a_field_that_the_body_must_have(
    server: Server,
) -> None:
    document = await document_of(server)
    selected = [op for op in operations().values() if op.select is not None]
    assert len(selected) > 5
    for op in selected:
        assert op.select is not None
        field, values = op.select
        schema = body_schema(document, op.name)
        assert field in schema["required"]
        described = schema["properties"][field]
        assert described.get("enum", [described.get("const")]) == list(values)


async def test_a_body_that_the_document_describes_is_one_that_the_server_takes(server: Server) -> None:
    document = await document_of(server)
    for name, op in operations().items():
        if op.method == "GET":
            continue
        sent = {key for key in op.request.example if key not in op.path_fields}
        schema = body_schema(document, name)
        assert set(schema.get("required", [])) <= sent <= schema.get("properties", {}).keys(), name
        assert not op.path_fields.keys() & schema.get("properties", {}).keys()
        assert schema["additionalProperties"] is False


async def test_the_examples_of_the_contract_are_shown_as_bodies_without_the_fields_of_the_path(
    server: Server,
) -> None:
    document = await document_of(server)
    for op in operations().values():
        item = document["paths"][op.path][op.method.lower()]
        for parameter in item["parameters"]:
            assert (
                parameter.get("in") != "path" or parameter["example"] == op.request.example[parameter["name"]]
            )
        if op.method == "GET":
            continue
        shown = item["requestBody"]["content"][JSON]["examples"][op.name]["value"]
        assert shown == {key: value for key, value in op.request.example.items() if key not in op.path_fields}


class Page(HTMLParser):
    """What a page loads and runs."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.inline: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._tag = tag
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        wanted = {"script": "src", "link": "href", "img": "src", "iframe": "src", "a": "href"}.get(tag)
        if wanted is not None and (found := given.get(wanted)):
            self.loaded.add(found)

    def handle_data(self, data: str) -> None:
        if self._tag in {"script", "style"} and data.strip():
            self.inline.append(data)


async def test_the_docs_page_loads_its_own_files_only_and_each_is_there_with_its_type(server: Server) -> None:
    reply = await server("GET", "/docs", token=None)
    assert reply.status == 200
    page = Page()
    page.feed(reply.body.decode())
    assert page.inline == []
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".json": JSON}
    assert {name[name.rindex(".") :] for name in page.loaded} == types.keys()
    for name in page.loaded:
        path = urljoin("/docs", name)
        assert path.startswith("/docs/") or path == "/openapi.json"
        answer = await server("GET", path, token=None)
        assert answer.status == 200
        assert answer.body
        assert answer.headers["content-type"].startswith(types[path[path.rindex(".") :]])
        assert answer.headers["x-content-type-options"] == "nosniff"
        outside = rb"(?:@import|url\()\s*['\"]?(?:https?:)?//" if path.endswith(".css") else rb"importScripts"
        assert not re.search(outside, answer.body)


async def test_the_docs_page_may_run_and_call_nothing_but_its_own_server(server: Server) -> None:
    reply = await server("GET", "/docs", token=None)
    policy = dict(part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert policy["img-src"] == "'self' data:"
    assert {policy[name] for name in ("frame-ancestors", "base-uri", "form-action")} == {"'none'"}
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/docs", "/docs/swagger-ui-bundle.js", "/openapi.json"])
async def test_a_page_that_the_browser_has_is_not_sent_again_and_is_compressed_when_it_may_be(
    server: Server, path: str
) -> None:
    plain = await server("GET", path, token=None)
    small = await server("GET", path, token=None, headers={"accept-encoding": "br, gzip"})
    assert small.headers["content-encoding"] == "gzip"
    assert gzip.decompress(small.body) == plain.body
    assert len(small.body) < len(plain.body)
    etag = plain.headers["etag"]
    assert small.headers["etag"] == etag
    again = await server("GET", path, token=None, headers={"if-none-match": f'"other", {etag}'})
    assert (again.status, again.body) == (304, b"")
    other = await server("GET", path, token=None, headers={"if-none-match": '"other"'})
    assert other.status == 200


async def test_a_file_that_the_page_does_not_name_is_not_served(server: Server) -> None:
    for path in ("/docs/../app.py", "/docs/LICENSE", "/docs/swagger-ui/LICENSE", "/docs/%2e%2e/openapi.py"):
        assert (await server("GET", path, token=None)).status == 404
