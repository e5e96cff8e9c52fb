"""The OpenAPI document and the /docs page, both walked off the contract."""

from __future__ import annotations

import html
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from dominus._version import __version__
from dominus.contract import operations
from dominus.contract.envelope import JSON_LINES
from dominus.contract.kinds import Auth
from dominus.contract.operation import Operation

__all__ = ["document", "page"]

_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "success": {"const": False},
        "error": {"type": "string"},
        "code": {"type": "string"},
        "details": {},
        "hint": {"type": ["string", "null"]},
        "request_id": {"type": "string"},
    },
    "required": ["success", "error", "code"],
}
_LINES = (
    "The fields of the JSON body without its list in the first line, then a JSON object a line; any length."
)


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    found = operations().values()
    bodies = {operation.request for operation in found if operation.method != "GET"}
    models = sorted(bodies, key=lambda model: model.__name__)
    refs, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas: dict[str, Any] = dict(definitions.get("$defs", {}))
    schemas["Error"] = _ERROR
    paths: dict[str, Any] = {}
    for operation in found:
        item = paths.setdefault(operation.path, {}).setdefault(operation.method.lower(), {})
        request = refs.get((operation.request, "validation"))
        if request is not None:
            _leave_to_path(operation, schemas[request["$ref"].rpartition("/")[2]])
        _describe(item, operation, request, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Dominus orchestrator", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _leave_to_path(operation: Operation[Any, Any], schema: dict[str, Any]) -> None:
    """Take out of a body's schema what the path names: the server refuses it in the body."""
    for name in operation.path_fields:
        schema["properties"].pop(name, None)
        if name in schema.get("required", ()):
            schema["required"].remove(name)


def _describe(
    item: dict[str, Any],
    operation: Operation[Any, Any],
    request: dict[str, Any] | None,
    schemas: dict[str, Any],
) -> None:
    """Add an operation to its route; the ones that share a route become alternatives of its body."""
    item.setdefault("tags", [operation.service])
    if "operationId" in item:
        item["summary"] += f" / {operation.summary}"
    else:
        item["operationId"] = operation.name
        item["summary"] = operation.summary
    item.setdefault("x-operations", {})[operation.name] = {"scope": operation.scope}
    if operation.auth is not Auth.NONE:
        item["security"] = [{"bearer": []}]
    if operation.path_fields:
        item["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in operation.path_fields
        ]
    if operation.method != "GET" and request is not None:
        content = item.setdefault(
            "requestBody", {"required": True, "content": {"application/json": {"schema": {}}}}
        )
        _alternative(content["content"]["application/json"], request)
        if operation.is_streamed:
            content["content"][JSON_LINES] = {"schema": {"type": "string", "description": _LINES}}
    answer = TypeAdapter(operation.result).json_schema(
        mode="serialization", ref_template="#/components/schemas/{model}"
    )
    schemas.update(answer.pop("$defs", {}))
    responses = item.setdefault("responses", {"default": _error_response()})
    success = responses.setdefault(
        "200", {"description": "Done.", "content": {"application/json": {"schema": {}}}}
    )
    _alternative(success["content"]["application/json"], answer if operation.is_plain else _enveloped(answer))


def _alternative(place: dict[str, Any], schema: dict[str, Any]) -> None:
    known: dict[str, Any] = place["schema"]
    if not known:
        place["schema"] = schema
    elif "oneOf" in known:
        known["oneOf"].append(schema)
    else:
        place["schema"] = {"oneOf": [known, schema]}


def _enveloped(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"success": {"const": True}, "data": schema},
        "required": ["success", "data"],
    }


def _error_response() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": "A failure.", "content": {"application/json": {"schema": schema}}}


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "code{background:#f3f4f6;padding:.1rem .3rem;border-radius:4px}table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #e5e7eb;vertical-align:top}"
    "h2{margin-top:2rem}"
)


@cache
def page() -> str:
    """Return the page for people: every operation with its route, scope and fields; no script, nothing loaded."""
    services: dict[str, list[Operation[Any, Any]]] = {}
    for operation in operations().values():
        services.setdefault(operation.service, []).append(operation)
    body = "".join(_section(name, found) for name, found in services.items())
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Dominus orchestrator</title>"
        f"<style>{_STYLE}</style><h1>Dominus orchestrator {html.escape(__version__)}</h1>"
        "<p>Bodies are JSON, answers <code>{&quot;success&quot;: true, &quot;data&quot;: ...}</code>. "
        "Mint a token with <code>POST /api/warden/mint</code> and your PSK, "
        "then send it as <code>Authorization: Bearer</code>. "
        "Machines read <a href=/openapi.json>/openapi.json</a>.</p>"
        f"{body}</html>"
    )


def _section(service: str, found: list[Operation[Any, Any]]) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(operation.name)}</code></td>"
        f"<td><code>{operation.method} {html.escape(operation.path)}</code></td>"
        f"<td>{html.escape(operation.summary)}</td><td>{html.escape(_fields(operation))}</td>"
        f"<td>{html.escape(operation.scope or ('open' if operation.auth is Auth.NONE else 'any'))}</td></tr>"
        for operation in found
    )
    head = "<tr><th>operation<th>route<th>what<th>fields<th>scope</tr>"
    return f"<h2>{html.escape(service)}</h2><table>{head}{rows}</table>"


def _fields(operation: Operation[Any, Any]) -> str:
    return ", ".join(
        f"{info.alias or name}{'' if info.is_required() else '?'}"
        for name, info in operation.request.model_fields.items()
    )
