"""LLM-GUIDE.md says what the code says: every public callable with its signature, every result with its fields."""

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
from dominus import Dominus, crypto, sessions, testing
from dominus.contract import auth, db, ddl, health, operations, redis, secrets
from dominus.contract import sessions as session_calls
from dominus.names import METHOD_OF, callable_names
from dominus.namespaces.auth import Auth
from dominus.namespaces.db import Db, QueryRows
from dominus.namespaces.ddl import Ddl
from dominus.namespaces.health import Health
from dominus.namespaces.lock import Lease
from dominus.namespaces.redis import Redis
from dominus.namespaces.secrets import Secrets
from dominus.orchestrator.settings import ServerSettings
from dominus.sessions import AsyncSession, Session, Sessions
from dominus.sessions.factories import PostgresSessions, RedisSessions, TigerBeetleSessions
from dominus.sessions.with_token import TigerBeetle
from dominus.settings import Settings
from dominus.transport.shared import Stats

ROOT = Path(__file__).parents[2]
NAMESPACES: dict[str, type] = {
    "secrets": Secrets,
    "db": Db,
    "ddl": Ddl,
    "redis": Redis,
    "auth": Auth,
    "health": Health,
    "sessions": Sessions,
}
FACTORIES: dict[str, type] = {
    "redis": RedisSessions,
    "postgres": PostgresSessions,
    "tigerbeetle": TigerBeetleSessions,
}
CONTRACT = (auth, secrets, db, ddl, redis, health, session_calls)
_PREFIXES = re.compile(r"\b(?:builtins|contract|contextlib|httpx|pytest)\.")


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _annotation(value: Any) -> str:
    text = value if isinstance(value, str) else getattr(value, "__name__", str(value))
    # Modules that are imported beside a function of the same name.
    return _PREFIXES.sub("", text).replace("native_", "")


def _parameters(signature: inspect.Signature) -> str:
    # An empty annotation everywhere: types are told in words beside the signature.
    plain = [
        item.replace(
            annotation=item.empty, default=item.empty if item.default is item.empty else _Shown(item.default)
        )
        for item in signature.parameters.values()
        if item.name != "self"
    ]
    return str(inspect.Signature(plain))


class _Shown:
    """A default as a person writes it."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        return json.dumps(self._value) if isinstance(self._value, str) else repr(self._value)


def signature_text(name: str, target: Callable[..., Any]) -> str:
    """Return a public callable as the guide writes it; of overloads, the implementation that serves them all."""
    signature = inspect.signature(target)
    if inspect.isclass(target):
        return f"{name}{_parameters(signature)}"
    returned = _annotation(signature.return_annotation)
    if inspect.isasyncgenfunction(target):
        how = "async for item in "
    elif name == "dominus.redis.lock" or returned.startswith("AsyncSession["):
        how = "async with "
    elif returned.startswith("Session["):
        how = "with "
    else:
        how = "await " if inspect.iscoroutinefunction(target) else ""
    return f"{how}{name}{_parameters(signature)} -> {returned}"


def shape_text(name: str, shape: Any) -> str:
    """Return a TypedDict as the guide writes it; a field that may be absent carries `?`."""
    hints = get_type_hints(shape, include_extras=True)
    fields: list[str] = []
    for field, hint in hints.items():
        may_be_absent = not shape.__total__ or get_origin(hint) is NotRequired
        said = shape.__annotations__[field]
        text = _annotation(getattr(said, "__forward_arg__", said))
        text = re.sub(r"^NotRequired\[(.*)\]$", r"\1", text)
        fields.append(f'"{field}"{"?" if may_be_absent else ""}: {text}')
    return f"{name} = {{{', '.join(fields)}}}"


def _public(prefix: str, owner: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, member in inspect.getmembers(owner, inspect.isfunction):
        if not name.startswith("_") and member.__module__.startswith("dominus"):
            yield f"{prefix}.{name}", member


def _exported(prefix: str, module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in module.__all__:
        member = getattr(module, name)
        if inspect.isclass(member) or inspect.isfunction(member):
            yield f"{prefix}{name}", member
        if inspect.isclass(member):
            yield from _public(f"{prefix}{name}", member)


def _sessions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, factory in FACTORIES.items():
        yield f"dominus.sessions.{name}", vars(factory)["__call__"]
        yield from _public(f"dominus.sessions.{name}", factory)
    for name, kind in (("async_session", AsyncSession), ("session", Session)):
        yield from _public(name, kind)
    # With a token in hand: `from dominus.sessions import redis, postgres, tigerbeetle`.
    yield from ((name, vars(sessions)[name]) for name in ("redis", "postgres"))
    yield "tigerbeetle", vars(TigerBeetle)["__call__"]


def client_callables() -> dict[str, Callable[..., Any]]:
    """Return everything that a program may call, by the name that the guide gives it."""
    found: dict[str, Callable[..., Any]] = {"Dominus": Dominus, "dominus": Dominus.__call__}
    found |= dict(_public("dominus", Dominus))
    for name, owner in NAMESPACES.items():
        found |= dict(_public(f"dominus.{name}", owner))
    found |= dict(_sessions())
    return found | dict(_public("lease", Lease)) | dict(_exported("crypto.", crypto))


def result_shapes() -> dict[str, Any]:
    """Return the TypedDicts that public methods give back, with those inside them."""
    known = {
        name: value
        for module in CONTRACT
        for name, value in vars(module).items()
        if hasattr(value, "__required_keys__") and value.__module__ == module.__name__
    }
    returned = " ".join(
        _annotation(inspect.signature(target).return_annotation)
        for target in client_callables().values()
        if not inspect.isclass(target)
    )
    found: dict[str, Any] = {"QueryRows": QueryRows, "Stats": Stats, "ColumnSpec": ddl.ColumnSpec}
    wanted = set(re.findall(r"\w+", returned))
    while new := {name: known[name] for name in wanted if name in known and name not in found}:
        found |= new
        wanted = {word for shape in new.values() for word in re.findall(r"\w+", str(shape.__annotations__))}
    return found


@pytest.mark.parametrize("name", sorted(client_callables()))
def test_the_guide_shows_each_public_callable_with_its_signature(name: str) -> None:
    expected = signature_text(name, client_callables()[name])
    assert f"`{expected}`" in _text("LLM-GUIDE.md"), (
        f"LLM-GUIDE.md lacks, or has another form of: `{expected}`"
    )


def test_the_guide_shows_what_dominus_testing_offers() -> None:
    guide = _text("LLM-GUIDE.md")
    offered = dict(_exported("", testing))
    missing = [
        text for text in (signature_text(*item) for item in offered.items()) if f"`{text}`" not in guide
    ]
    assert offered, "dominus.testing exports nothing"
    assert not missing, "LLM-GUIDE.md lacks, or has another form of:\n" + "\n".join(missing)


def test_the_guide_names_every_fixture_of_the_pytest_plugin() -> None:
    from dominus.testing import plugin

    guide = _text("LLM-GUIDE.md")
    assert plugin.__all__
    assert [name for name in plugin.__all__ if f"`{name}`" not in guide] == []


@pytest.mark.parametrize("name", sorted(result_shapes()))
def test_the_guide_shows_the_fields_of_each_result(name: str) -> None:
    expected = shape_text(name, result_shapes()[name])
    assert f"`{expected}`" in _text("LLM-GUIDE.md"), (
        f"LLM-GUIDE.md lacks, or has another form of: `{expected}`"
    )


def test_a_changed_signature_would_be_noticed() -> None:
    async def get(self: Any, key: str, category: str = "x", *, default: Any = None) -> list[Any]:
        raise NotImplementedError

    text = signature_text("dominus.redis.get", get)
    assert text == 'await dominus.redis.get(key, category="x", *, default=None) -> list[Any]'
    assert text not in _text("LLM-GUIDE.md")


def test_every_namespace_of_the_client_is_walked() -> None:
    lazy = {name for name, member in vars(Dominus).items() if type(member).__name__ == "cached_property"}
    assert lazy == set(NAMESPACES)


def test_every_factory_of_sessions_is_walked() -> None:
    lazy = {name for name, member in vars(Sessions).items() if type(member).__name__ == "cached_property"}
    assert lazy == set(FACTORIES)
    plain = {name for name in sessions.__all__ if name.islower()}
    assert plain == set(FACTORIES)
    walked = set(client_callables())
    assert {"dominus.sessions.token", "dominus.sessions.postgres.pool", "async_session.close"} <= walked


def test_each_operation_has_a_method_that_is_callable_by_name() -> None:
    client = Dominus()
    assert set(operations()) <= set(callable_names())
    for name in operations():
        method: Any = client
        for part in METHOD_OF.get(name, name).split("."):
            method = getattr(method, part)
        assert inspect.iscoroutinefunction(method), name
        assert "timeout" in inspect.signature(method).parameters, f"{name} takes no timeout"


def test_the_guide_names_every_operation_that_is_callable_by_name() -> None:
    guide = _text("LLM-GUIDE.md")
    missing = [
        name for name in callable_names() if f"`{name}`" not in guide and f"dominus.{name}(" not in guide
    ]
    assert not missing


@pytest.mark.parametrize("document", ["LLM-GUIDE.md", "docs/errors.md", "README.md"])
def test_every_error_is_documented(document: str) -> None:
    errors = [name for name in package.__all__ if name.endswith("Error")]
    assert [name for name in errors if name not in _text(document)] == []


def test_the_readme_lists_every_setting_of_the_client() -> None:
    named = {"project": "CB_PROJECT_SLUG", "environment": "CB_ENVIRONMENT"}
    wanted = {named.get(name, f"DOMINUS_{name.upper()}") for name in Settings.model_fields}
    assert {name for name in wanted if f"`{name}`" not in _text("README.md")} == set()


@pytest.mark.parametrize("document", ["README.md", "docs/operations.md"])
def test_the_documents_list_every_setting_of_the_server(document: str) -> None:
    # DOMINUS_IS_DURABLE is for tests of the embedded PostgreSQL alone.
    wanted = {f"DOMINUS_{name.upper()}" for name in ServerSettings.model_fields} - {"DOMINUS_IS_DURABLE"}
    assert {name for name in wanted if f"`{name}`" not in _text(document)} == set()
