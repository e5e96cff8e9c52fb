"""LLM-GUIDE.md says what the code says: every public method with its signature, every result with its fields."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NotRequired, get_origin, get_type_hints

import pytest

import dominus as package
import dominus.testing as testing
from dominus import Dominus, crypto, errors
from dominus.contract import health, operations, scribe, smith, warden, whisperer
from dominus.names import METHOD_OF, callable_names
from dominus.namespaces.auth import Auth
from dominus.namespaces.db import Db, QueryRows
from dominus.namespaces.ddl import Ddl
from dominus.namespaces.health import Health
from dominus.namespaces.lock import Lease
from dominus.namespaces.redis import Redis
from dominus.namespaces.secrets import Secrets
from dominus.orchestrator.settings import ServerSettings
from dominus.settings import Settings
from dominus.transport.shared import ColdStart, Stats

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "LLM-GUIDE.md").read_text(encoding="utf-8")
NAMESPACES: dict[str, type] = {
    "secrets": Secrets,
    "db": Db,
    "ddl": Ddl,
    "redis": Redis,
    "auth": Auth,
    "health": Health,
}
CONTEXT_MANAGERS = {"dominus.redis.lock"}


# --- the text that the guide must hold


def _annotation(value: Any) -> str:
    text = value if isinstance(value, str) else getattr(value, "__name__", str(value))
    return re.sub(r"\b(?:builtins|scribe|smith|warden|whisperer|health|contextlib|httpx|dt)\.", "", text).replace("Self", "Dominus")


def _default(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _parameters(signature: inspect.Signature) -> str:
    said: list[str] = []
    names = list(signature.parameters.values())
    for place, item in enumerate(names):
        if item.name == "self":
            continue
        is_first_keyword = item.kind is item.KEYWORD_ONLY and not any(
            one.kind in {item.KEYWORD_ONLY, item.VAR_POSITIONAL} for one in names[:place]
        )
        if is_first_keyword:
            said.append("*")
        stars = {item.VAR_POSITIONAL: "*", item.VAR_KEYWORD: "**"}.get(item.kind, "")
        default = "" if item.default is item.empty else f"={_default(item.default)}"
        said.append(f"{stars}{item.name}{default}")
        is_last_positional_only = item.kind is item.POSITIONAL_ONLY and (
            place + 1 == len(names) or names[place + 1].kind is not item.POSITIONAL_ONLY
        )
        if is_last_positional_only:
            said.append("/")
    return f"({', '.join(said)})"


def signature_text(name: str, target: Callable[..., Any]) -> str:
    """Return a public callable as the guide writes it; of overloads, the implementation that serves them all."""
    signature = inspect.signature(target)
    how = ""
    if inspect.isasyncgenfunction(target):
        how = "async for item in "
    elif name in CONTEXT_MANAGERS:
        how = "async with "
    elif inspect.iscoroutinefunction(target):
        how = "await "
    if inspect.isclass(target):
        return f"{name}{_parameters(signature)}"
    return f"{how}{name}{_parameters(signature)} -> {_annotation(signature.return_annotation)}"


def shape_text(result: Any) -> str:
    """Return a TypedDict as the guide writes it; a field that may be absent carries `?`."""
    is_total = getattr(result, "__total__", True)
    fields: list[str] = []
    for name, hint in get_type_hints(result, include_extras=True).items():
        is_optional = not is_total or get_origin(hint) is NotRequired
        raw = str(result.__annotations__[name])
        raw = re.sub(r"^ForwardRef\('(.*?)'.*$", r"\1", raw)
        text = _annotation(re.sub(r"^NotRequired\[(.*)\]$", r"\1", raw))
        fields.append(f'"{name}"{"?" if is_optional else ""}: {text}')
    return f"{result.__name__} = {{{', '.join(fields)}}}"


def _public(owner: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, member in inspect.getmembers(owner, inspect.isfunction):
        if not name.startswith("_"):
            yield name, member


def _of_module(prefix: str, module: ModuleType, names: list[str]) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in names:
        member = getattr(module, name)
        if inspect.isfunction(member):
            yield f"{prefix}{name}", member
        elif inspect.isclass(member):
            yield f"{prefix}{name}", member
            for method, function in _public(member):
                yield f"{prefix}{name}.{method}", function


def public_callables() -> dict[str, Callable[..., Any]]:
    """Return everything that a program may call, by the name that the guide gives it."""
    found: dict[str, Callable[..., Any]] = {"Dominus": Dominus, "dominus": Dominus.__call__}
    found |= {f"dominus.{name}": member for name, member in _public(Dominus)}
    for namespace, owner in NAMESPACES.items():
        found |= {f"dominus.{namespace}.{name}": member for name, member in _public(owner)}
    found |= {f"lease.{name}": member for name, member in _public(Lease)}
    found |= dict(_of_module("crypto.", crypto, crypto.__all__))
    return found | dict(_of_module("testing.", testing, testing.__all__))


SHAPES = [
    *(
        value
        for module in (warden, scribe, smith, whisperer, health)
        for name, value in sorted(vars(module).items())
        if hasattr(value, "__required_keys__") and value.__module__ == module.__name__ and f"{name}" in GUIDE
    ),
    Stats,
]


# --- tests


@pytest.mark.parametrize(("name", "target"), sorted(public_callables().items()), ids=lambda value: value if isinstance(value, str) else "")
def test_the_guide_shows_each_public_callable_with_its_signature(name: str, target: Callable[..., Any]) -> None:
    expected = signature_text(name, target)
    assert expected in GUIDE, f"LLM-GUIDE.md lacks, or has another form of:\n{expected}"


def test_a_changed_signature_is_noticed() -> None:
    async def get(self: Any, key: str, *, default: Any = None, limit: int = 5) -> "builtins.list[Any]":  # noqa: F821, UP037
        raise NotImplementedError

    assert signature_text("dominus.redis.get", get) == "await dominus.redis.get(key, *, default=None, limit=5) -> list[Any]"
    assert signature_text("dominus.redis.get", get) not in GUIDE


def test_every_namespace_of_the_client_is_walked() -> None:
    properties = {
        name for name, member in vars(Dominus).items() if hasattr(member, "attrname") and not name.startswith("_")
    }
    assert properties == set(NAMESPACES)


def _result_names() -> set[str]:
    """Return the names of the TypedDicts that public methods return."""
    shapes = {
        name: value
        for module in (warden, scribe, smith, whisperer, health)
        for name, value in vars(module).items()
        if hasattr(value, "__required_keys__")
    }
    said = " ".join(signature_text(name, target) for name, target in public_callables().items() if not inspect.isclass(target))
    named = {name for name in shapes if re.search(rf"\b{name}\b", said.replace("dominus.", "")) and f"-> " in said}
    inner = {other for name in named for other in shapes if re.search(rf"\b{other}\b", str(shapes[name].__annotations__))}
    return named | inner


def _shapes() -> dict[str, Any]:
    known = {
        name: value
        for module in (warden, scribe, smith, whisperer, health)
        for name, value in vars(module).items()
        if hasattr(value, "__required_keys__")
    }
    return {name: known[name] for name in sorted(_result_names())} | {"QueryRows": QueryRows, "Stats": Stats, "ColumnSpec": smith.ColumnSpec}


@pytest.mark.parametrize("name", sorted(_shapes()))
def test_the_guide_shows_the_fields_of_each_result(name: str) -> None:
    expected = shape_text(_shapes()[name])
    assert expected in GUIDE, f"LLM-GUIDE.md lacks, or has another form of:\n{expected}"
