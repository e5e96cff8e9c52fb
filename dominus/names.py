"""Calls by name: `dominus("redis.set", key="k", value=1)`, for the CLI and for callers that hold names as data."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from dominus.errors import ValidationError
from dominus.hints import shell_command

__all__ = ["METHOD_OF", "call_by_name", "callable_names", "check_name", "example_params"]

METHOD_OF: Mapping[str, str] = {
    "auth.self": "auth.token",
    "auth.mint": "auth.mint_jwt",
    "auth.jwks": "auth.get_public_key",
    "gateway.resolve": "sessions.resolve",
    "gateway.credentials": "sessions.credentials",
    "gateway.release": "sessions.release",
}
"""Operations whose method has another name; every other operation is called as it is."""
_ALSO = (
    *("get", "upsert", "ddl.add_table", "auth.validate_jwt", "secrets.get_many", "auth.mint_jwt"),
    "courier.send_welcome",
    "courier.send_password_reset",
    "courier.send_email_verification",
    "courier.send_invitation",
)


def callable_names() -> list[str]:
    """Return every name that can be called, sorted."""
    from dominus.contract import operations

    return sorted({*operations(), *_ALSO})


def check_name(name: str) -> None:
    """Refuse what is no name of an operation.

    Raises:
        ValidationError: the hint is the nearest name.
    """
    names = callable_names()
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1)
        raise ValidationError(
            f"there is no operation {name!r}",
            code="unknown_operation",
            hint=f"did you mean {near[0]!r}?"
            if near
            else f"`{shell_command('call --list')}` shows all names",
        )


async def call_by_name(client: object, name: str, params: Mapping[str, Any]) -> Any:
    """Call an operation of a client by its name, with the parameters of its method."""
    check_name(name)
    method: Any = client
    for part in METHOD_OF.get(name, name).split("."):
        method = getattr(method, part)
    try:
        inspect.signature(method).bind(**params)
    except TypeError as error:
        known = ", ".join(inspect.signature(method).parameters)
        raise ValidationError(f"{name}: {error}", code="bad_parameters", hint=f"it takes {known}") from None
    found: Any = method(**params)
    return [item async for item in found] if hasattr(found, "__aiter__") else await found


def example_params(name: str) -> dict[str, Any]:
    """Return parameters with which an operation can be called by its name; empty for what needs none."""
    from dominus.contract import operations

    op = operations()[name]
    fields = dict(op.request.example)
    if op.select is not None:
        del fields[op.select[0]]
        # What the wire puts one level deeper, to tell operations apart, is told apart by no method.
        fields |= fields.pop("params", {})
    titles = {
        info.alias or wire: info.title or info.alias or wire for wire, info in op.request.model_fields.items()
    }
    return {titles.get(wire, wire): value for wire, value in fields.items() if value is not None}
