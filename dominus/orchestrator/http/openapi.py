"""The OpenAPI document, walked off the contract."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from dominus._version import __version__
from dominus.contract import operations, services
from dominus.contract.envelope import (
    BYTES,
    DEADLINE_HEADER,
    ENVIRONMENT_HEADER,
    JSON_LINES,
    KEY_HEADER,
    PROJECT_HEADER,
)
from dominus.contract.kinds import Auth, Retry
from dominus.contract.operation import Operation

__all__ = ["document"]

AnyOperation = Operation[Any, Any]
_Schema = dict[str, Any]
JSON = "application/json"
_SCHEMAS = "#/components/schemas/{model}"

_INTRODUCTION = """\
Bodies are JSON. An answer is `{"success": true, "data": ...}`; a failure has an HTTP status and
`{"success": false, "error": ..., "code": ..., "details": ..., "hint": ..., "request_id": ...}`.
Compare `code`, never `error`.

**Try it here.** Choose *Authorize*, paste the pre-shared key (`DOMINUS_TOKEN`) under `psk`, and run
`POST /api/warden/mint` with `{"method": "auth.self"}`. This page then sends the token of that answer with the others.

**With curl.** `curl $URL/api/warden/mint -H "Authorization: Bearer $DOMINUS_TOKEN" -H 'Content-Type: application/json'
-d '{"method": "auth.self"}'` answers with `data.access_token`, which all other calls take as `Authorization: Bearer`.
"""
_SECURITY: dict[Auth, dict[str, str]] = {
    Auth.PSK: {
        "type": "http",
        "scheme": "bearer",
        "description": "The pre-shared key (`DOMINUS_TOKEN`). It opens the mint and nothing else.",
    },
    Auth.TOKEN: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The token of `POST /api/warden/mint`. `expires_in` says how long it lives.",
    },
    Auth.SESSION: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The token of `POST /api/warden/session`. It opens one target of the gateway.",
    },
}
_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "success": {"const": False},
        "error": {"type": "string", "description": "One sentence for people; it may change."},
        "code": {"type": "string", "description": "A word for programs; it does not change."},
        "details": {"description": "What else is known: fields, columns, missing keys."},
        "hint": {"type": ["string", "null"], "description": "What to do."},
        "request_id": {"type": "string", "description": "The server's log has a line under it."},
    },
    "required": ["success", "error", "code"],
    "example": {
        "success": False,
        "error": "table 'ordrs' does not exist",
        "code": "unknown_table",
        "details": {"table": "ordrs"},
        "hint": "did you mean 'orders'?",
        "request_id": "5f0c8a7e",
    },
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}
_FAILURES: dict[str, tuple[str, str]] = {
    "400": ("BadRequest", "A value is wrong; nothing was changed."),
    "401": ("Unauthorized", "The credential is missing, malformed, unknown or expired."),
    "403": ("Forbidden", "The token lacks a scope, or PostgreSQL refuses the data role."),
    "404": ("NotFound", "No such secret, table, schema or target."),
    "409": (
        "Conflict",
        "A unique value is taken, a row is referred to, or an idempotency key was used for another request.",
    ),
    "413": ("TooLarge", "The body is larger than the server takes."),
    "429": ("TooManyRequests", "Too many requests."),
    "503": ("Unavailable", "An engine does not answer, or is busy."),
    "default": ("Failure", "Any other failure."),
}
_PARAMETERS: dict[str, tuple[str, dict[str, Any]]] = {
    KEY_HEADER: (
        "A repeat of the write with the same key gets the stored outcome.",
        {"type": "string", "minLength": 1, "maxLength": 255},
    ),
    DEADLINE_HEADER: ("The server gives up after so many milliseconds.", {"type": "integer", "minimum": 1}),
    PROJECT_HEADER: ("The token's project; `default` without it.", {"type": "string"}),
    ENVIRONMENT_HEADER: ("The token's environment; `development` without it.", {"type": "string"}),
}
_LINES = (
    "The fields of the JSON body without its list in the first line, then a JSON object a line; any length."
)


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    found = list(operations().values())
    models = sorted(
        {operation.request for operation in found if operation.method != "GET"},
        key=lambda model: model.__name__,
    )
    refs, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_SCHEMAS)
    schemas: dict[str, Any] = {**definitions.get("$defs", {}), "Error": _ERROR}
    routes: dict[tuple[str, str], list[AnyOperation]] = {}
    for operation in found:
        routes.setdefault((operation.path, operation.method), []).append(operation)
    paths: dict[str, Any] = {}
    for (path, method), sharing in routes.items():
        bodies = {operation.name: refs.get((operation.request, "validation"), {}) for operation in sharing}
        paths.setdefault(path, {})[method.lower()] = _route(sharing, bodies, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dominus orchestrator",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": service.name} for service in services()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": dict(map(_failure, _FAILURES)),
            "parameters": {name: _header(name) for name in _PARAMETERS},
            "securitySchemes": {auth.value: scheme for auth, scheme in _SECURITY.items()},
        },
    }


def _route(
    sharing: list[AnyOperation], bodies: dict[str, _Schema], schemas: dict[str, Any]
) -> dict[str, Any]:
    """Describe a route; operations that share it are told apart by a field of the body."""
    first = sharing[0]
    item: dict[str, Any] = {"tags": [first.service]}
    if len(sharing) == 1:
        item |= {"operationId": first.name, "summary": first.summary, "description": _needs(first)}
    else:
        verbs = ", ".join(operation.name.partition(".")[2] for operation in sharing)
        lines = "\n".join(
            f"- `{one.name}` ({_told_apart(one)}): {one.summary} {_needs(one)}" for one in sharing
        )
        item |= {
            "operationId": "_".join(first.path.split("/")[2:]),
            "summary": f"{first.service}: {verbs}.",
            "description": f"One route, several operations:\n\n{lines}",
        }
    item["x-operations"] = {
        one.name: {"scope": one.scope, "summary": one.summary, "errors": list(dict.fromkeys(one.errors))}
        for one in sharing
    }
    if first.auth is not Auth.NONE:
        item["security"] = [{first.auth.value: []}]
    parameters = [
        *_path_parameters(first, bodies[first.name], schemas),
        *({"$ref": f"#/components/parameters/{name}"} for name in _headers(sharing)),
    ]
    for operation in sharing:
        _fit_to_route(operation, bodies[operation.name], schemas)
    item["parameters"] = parameters
    if first.method != "GET":
        item["requestBody"] = _request_body(sharing, bodies)
    item["responses"] = _responses(sharing, schemas)
    return item


def _needs(operation: AnyOperation) -> str:
    """Say what a caller needs, and which codes the operation may answer beside those of all operations."""
    codes = ", ".join(f"`{code}`" for code in dict.fromkeys(operation.errors))
    scope = "Needs no token." if operation.auth is Auth.NONE else "Needs no scope."
    scope = f"Scope `{operation.scope}`." if operation.scope else scope
    return f"{scope} Codes: {codes}." if codes else scope


def _told_apart(operation: AnyOperation) -> str:
    name, values = operation.select or ("", ())
    return " or ".join(f'`"{name}": "{value}"`' for value in values)


def _path_parameters(
    operation: AnyOperation, body: _Schema, schemas: dict[str, Any]
) -> Iterable[dict[str, Any]]:
    """Return the parameters of the path, with the limits that the request's fields have."""
    fields = _properties(operation, body, schemas)
    for name in operation.path_fields:
        schema = {
            key: value for key, value in fields.get(name, {"type": "string"}).items() if key != "default"
        }
        example = operation.request.example[name]
        yield {"name": name, "in": "path", "required": True, "schema": schema, "example": example}


def _properties(operation: AnyOperation, body: _Schema, schemas: dict[str, Any]) -> dict[str, dict[str, Any]]:
    schema = schemas[_name(body)] if body else operation.request.model_json_schema()
    return schema.get("properties", {})


def _name(ref: dict[str, Any]) -> str:
    return ref["$ref"].rpartition("/")[2]


def _headers(sharing: list[AnyOperation]) -> list[str]:
    found: list[str] = []
    if any(operation.retry is Retry.KEYED for operation in sharing):
        found.append(KEY_HEADER)
    if sharing[0].auth is Auth.PSK:
        found += [PROJECT_HEADER, ENVIRONMENT_HEADER]
    return [*found, DEADLINE_HEADER]


def _fit_to_route(operation: AnyOperation, body: _Schema, schemas: dict[str, Any]) -> None:
    """Say in a body's schema what the server asks for: no field of the path, and always the one that selects."""
    if not body:
        return
    schema = schemas[_name(body)]
    required = [name for name in schema.get("required", ()) if name not in operation.path_fields]
    for name in operation.path_fields:
        schema["properties"].pop(name, None)
    if operation.select is not None and operation.select[0] not in required:
        required.insert(0, operation.select[0])
    schema.pop("required", None)
    if required:
        schema["required"] = required


def _request_body(sharing: list[AnyOperation], bodies: dict[str, _Schema]) -> dict[str, Any]:
    schema: dict[str, Any] = {"oneOf": [bodies[operation.name] for operation in sharing]}
    if len(sharing) == 1:
        schema = bodies[sharing[0].name]
    selecting = [(operation, *operation.select) for operation in sharing if operation.select is not None]
    if len(selecting) > 1:
        mapping = {
            value: bodies[operation.name]["$ref"] for operation, _, values in selecting for value in values
        }
        schema["discriminator"] = {"propertyName": selecting[0][1], "mapping": mapping}
    examples = {
        operation.name: {"summary": operation.summary, "value": _body_example(operation)}
        for operation in sharing
    }
    media: dict[str, Any] = {"schema": schema, "examples": examples}
    content: dict[str, Any] = {JSON: media}
    if any(operation.is_streamed for operation in sharing):
        content[JSON_LINES] = {"schema": {"type": "string", "description": _LINES}}
    if any(operation.raw_field for operation in sharing):
        content[BYTES] = {}
    return {"required": True, "content": content}


def _body_example(operation: AnyOperation) -> dict[str, Any]:
    shown = operation.request.example
    return {name: value for name, value in shown.items() if name not in operation.path_fields}


def _responses(sharing: list[AnyOperation], schemas: dict[str, Any]) -> dict[str, Any]:
    answers: list[dict[str, Any]] = []
    for operation in sharing:
        answer = TypeAdapter(operation.result).json_schema(mode="serialization", ref_template=_SCHEMAS)
        schemas.update(answer.pop("$defs", {}))
        answer = answer if operation.is_plain else _enveloped(answer)
        if answer not in answers:
            answers.append(answer)
    schema = answers[0] if len(answers) == 1 else {"anyOf": answers}
    content: dict[str, Any] = {JSON: {"schema": schema}}
    if any(operation.is_raw for operation in sharing):
        content[BYTES] = {}
    if any(operation.is_lines for operation in sharing):
        content[JSON_LINES] = {}
    found: dict[str, Any] = {"200": {"description": "Done.", "content": content}}
    return found | {
        status: {"$ref": f"#/components/responses/{_FAILURES[status][0]}"} for status in _statuses(sharing)
    }


def _statuses(sharing: list[AnyOperation]) -> Iterable[str]:
    """Return the statuses of failures that a client should expect; the last one stands for all others."""
    first = sharing[0]
    has_body = first.method != "GET"
    wanted = {
        "400": has_body,
        "401": first.auth is not Auth.NONE,
        "403": first.auth is not Auth.NONE and (first.auth is Auth.PSK or any(one.scope for one in sharing)),
        "404": any(
            one.path_fields or one.service in {"secrets", "ddl", "files", "sessions"} for one in sharing
        ),
        "409": any(one.retry is Retry.KEYED for one in sharing),
        "413": has_body,
        "429": True,
        "503": True,
        "default": True,
    }
    return (status for status, is_wanted in wanted.items() if is_wanted)


def _enveloped(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"success": {"const": True}, "data": schema},
        "required": ["success", "data"],
    }


def _failure(status: str) -> tuple[str, dict[str, Any]]:
    name, description = _FAILURES[status]
    found: dict[str, Any] = {
        "description": description,
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    return name, found | ({"headers": _RETRY_AFTER} if status in {"429", "503"} else {})


def _header(name: str) -> dict[str, Any]:
    description, schema = _PARAMETERS[name]
    return {"name": name, "in": "header", "description": description, "schema": schema}
