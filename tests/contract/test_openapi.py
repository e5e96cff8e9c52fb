"""The OpenAPI document and the /docs page say what the server does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from server_support import JSON, Server, process_resources, server

from dominus.contract import operations
from dominus.contract.kinds import Auth

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


def bodies(item: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    schema = item["requestBody"]["content"][JSON]["schema"]
    return [schemas[one["$ref"].rpartition("/")[2]] for one in schema.get("oneOf", [schema])]


async def test_the_document_is_well_formed_openapi(server: Server) -> None:
    reply = await server("GET", "/openapi.json", token=None)
    document = reply.document
    assert reply.headers["content-type"].startswith(JSON)
    assert document["openapi"].startswith("3.1")
    assert document["info"].keys() >= {"title", "version"}
    schemas = document["components"]["schemas"]
    known = {f"#/components/schemas/{name}" for name in schemas}
    used = set(refs(document))
    assert used <= known
    assert known - used == set(), "nothing describes what nothing uses"
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in schemas)
    items = [item for path in document["paths"].values() for item in path.values()]
    ids = [item["operationId"] for item in items]
    assert len(ids) == len(set(ids))
    for path, by_method in document["paths"].items():
        for method, item in by_method.items():
            assert method in {"get", "post", "delete"}
            named = {one["name"] for one in item.get("parameters", []) if one["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert ("requestBody" in item) == (method != "get")
            assert item["summary"]
            assert item["responses"]["200"]["description"]
            assert "default" in item["responses"]


async def test_every_operation_is_described_with_its_scope_and_credential(server: Server) -> None:
    paths = (await server("GET", "/openapi.json", token=None)).document["paths"]
    described = {name for path in paths.values() for item in path.values() for name in item["x-operations"]}
    assert described == operations().keys()
    for op in operations().values():
        item = paths[op.path][op.method.lower()]
        assert item["x-operations"][op.name] == {"scope": op.scope}
        assert ("security" in item) == (op.auth is not Auth.NONE)
        assert (JSON in item["responses"]["200"]["content"]) is True
        assert ("application/x-ndjson" in str(item.get("requestBody"))) == op.is_streamed


async def test_a_body_that_the_document_describes_is_one_that_the_server_takes(server: Server) -> None:
    document = (await server("GET", "/openapi.json", token=None)).document
    for name, op in operations().items():
        if op.method == "GET":
            continue
        sent = {key for key in op.request.example if key not in op.path_fields}
        item = document["paths"][op.path][op.method.lower()]
        fitting = [
            schema
            for schema in bodies(item, document["components"]["schemas"])
            if set(schema.get("required", [])) <= sent <= schema.get("properties", {}).keys()
        ]
        assert fitting, name
        for schema in fitting:
            assert not op.path_fields.keys() & schema["properties"].keys()
            assert schema["additionalProperties"] is False


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_docs_page_lists_everything_and_runs_and_loads_nothing(server: Server) -> None:
    reply = await server("GET", "/docs", token=None)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/html")
    page = Page()
    page.feed(reply.body.decode())
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed"}
    assert not any(name.startswith("on") or name in {"src", "srcset"} for name in page.attributes)
    assert "url(" not in reply.body.decode()
    for op in operations().values():
        assert op.name in page.text
        assert f"{op.method} {op.path}" in page.text
