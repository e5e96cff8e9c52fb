"""`dominus call`: one operation from the shell."""

from __future__ import annotations

import asyncio
import inspect
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import typer
from pydantic_core import to_json

from dominus.cli.rows import UsageError, parsed, read_rows
from dominus.client import Dominus
from dominus.errors import ValidationError
from dominus.hints import shell_command
from dominus.names import METHOD_OF, call_by_name, callable_names, check_name, example_params

__all__ = ["call_once", "print_names", "print_operation", "read_params", "run_call"]

COLD_START_SECONDS = 10.0
"""A person waits less long than a program for a server that starts; DOMINUS_COLD_START_TIMEOUT says otherwise."""


def run_call(name: str, pairs: list[str], rows_format: str | None = None) -> None:
    """Call an operation and print its result; `rows_format` is `json`, `jsonl` or `csv`.

    Raises:
        UsageError: a pair is no KEY=VALUE, its file cannot be read, or what it holds is broken.
        DominusError: the call failed.
    """
    print_json(asyncio.run(call_once(name, pairs, rows_format)))


async def call_once(name: str, pairs: list[str], rows_format: str | None = None) -> Any:
    """Call an operation with the environment's settings."""
    wait = None if os.environ.get("DOMINUS_COLD_START_TIMEOUT") else COLD_START_SECONDS
    async with Dominus(cold_start_timeout=wait) as client:
        return await call_by_name(client, name, read_params(client, name, pairs, rows_format))


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON does not know becomes text, and bytes base64."""
    typer.echo(to_json(value, indent=2, bytes_mode="base64", inf_nan_mode="strings", fallback=str))


def print_names() -> None:
    """Print every operation with a line about it."""
    from dominus.contract import operations

    known, client = operations(), Dominus()
    names = callable_names()
    width = max(map(len, names)) + 2
    for name in names:
        summary = known[name].summary if name in known else _first_line(_method(client, name))
        typer.echo(f"{name:<{width}}{summary}".rstrip())


def print_operation(name: str) -> None:
    """Print what an operation does and takes, with the contract's example of it as a command line.

    Raises:
        ValidationError: there is no such operation.
    """
    from dominus.contract import operations

    check_name(name)
    method = _method(Dominus(), name)
    typer.echo(f"{name}{_plain_signature(method)}\n")
    typer.echo(inspect.getdoc(method) or "")
    if name in operations():
        pairs = [f"{key}={_written(value)}" for key, value in example_params(name).items()]
        typer.echo(f"\nExample:\n    {shell_command('call')} {shlex.join([name, *pairs])}")


def _plain_signature(method: Any) -> str:
    # The types are told in words below it.
    plain = [item.replace(annotation=item.empty) for item in inspect.signature(method).parameters.values()]
    return str(inspect.Signature(plain))


def _written(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value).decode()


def read_params(
    client: Dominus, name: str, pairs: list[str], rows_format: str | None = None
) -> dict[str, Any]:
    """Read KEY=VALUE pairs for an operation; parameters that take text get text, whatever it looks like."""
    kinds = _parameter_types(client, name)
    params: dict[str, Any] = {}
    for pair in pairs:
        key, sign, raw = pair.partition("=")
        if not sign or not key:
            # Only the part that cannot be a value is shown.
            raise UsageError(f"{key[:40]!r} is not followed by =VALUE")
        if key in params:
            raise UsageError(f"{key} is given twice")
        if "RowSource" in kinds.get(key, "") and _is_elsewhere(raw):
            params[key] = list(read_rows(_text_of(raw), key, rows_format))
        else:
            params[key] = _read(key, raw, is_text=kinds.get(key) in {"str", "str | None", "<class 'str'>"})
    return params


def _is_elsewhere(raw: str) -> bool:
    return raw == "-" or raw.startswith("@")


def _text_of(raw: str) -> str:
    try:
        return sys.stdin.read() if raw == "-" else Path(raw[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{raw}: {reason}") from None


def _read(key: str, raw: str, *, is_text: bool) -> Any:
    if not _is_elsewhere(raw):
        return raw if is_text else parsed(raw, key)
    text = _text_of(raw)
    # A password of digits must stay one: only what is clearly a document is read as one.
    is_document = not is_text and text.lstrip()[:1] in {"{", "["}
    return parsed(text, key) if is_document else text.removesuffix("\n").removesuffix("\r")


def _parameter_types(client: Dominus, name: str) -> dict[str, str]:
    if name not in callable_names():
        # call_by_name says so, and suggests another.
        return {}
    parameters = inspect.signature(_method(client, name)).parameters.values()
    return {item.name: str(item.annotation) for item in parameters}


def _method(client: Dominus, name: str) -> Any:
    method: Any = client
    for part in METHOD_OF.get(name, name).split("."):
        method = getattr(method, part, None)
    if method is None:
        raise ValidationError(f"{name} has no method in this version")
    return method


def _first_line(method: Any) -> str:
    return (inspect.getdoc(method) or "").partition("\n")[0]
