"""Write the reference part of LLM-GUIDE.md from signatures, docstrings and the contract: `python docs/write_guide.py`.

What stands between the two marks of that page is written by this program, all else by hand. `--check` only tells
whether the page is up to date, as a test does.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NotRequired, get_origin, get_type_hints

from dominus import Dominus, crypto, errors, sessions, testing
from dominus.contract import admin, auth, codes, db, ddl, health, logs, operations, redis, secrets, services
from dominus.contract import courier as courier_calls
from dominus.contract import portal as portal_calls
from dominus.contract import sessions as session_calls
from dominus.contract.files import shapes as file_shapes
from dominus.contract.guardian import ENTITIES, LINKS
from dominus.contract.guardian import accounts as guardian_accounts
from dominus.contract.guardian import entities as guardian_entities
from dominus.contract.guardian import records as guardian_records
from dominus.integrations.namespace import FastAPINamespace
from dominus.names import METHOD_OF, callable_names
from dominus.namespaces.admin import Admin
from dominus.namespaces.auth import Auth
from dominus.namespaces.courier import Courier
from dominus.namespaces.db import Db, QueryRows
from dominus.namespaces.ddl import Ddl
from dominus.namespaces.files import Files
from dominus.namespaces.guardian import account_names, link_names, names
from dominus.namespaces.guardian.rights import Roles
from dominus.namespaces.health import Health
from dominus.namespaces.lease import Lease
from dominus.namespaces.link import ReplaceableLinks
from dominus.namespaces.logs import Logs
from dominus.namespaces.open import Open
from dominus.namespaces.portal import Portal
from dominus.namespaces.redis import Redis
from dominus.namespaces.secrets import Secrets
from dominus.namespaces.secure import Secure
from dominus.sessions import AsyncSession, Session, Sessions
from dominus.sessions.factories import PostgresSessions, RedisSessions, TigerBeetleSessions
from dominus.sessions.with_token import TigerBeetle
from dominus.shipping.shipper import LogStats
from dominus.testing import plugin
from dominus.transport.shared import Stats

PAGE = Path(__file__).parents[1] / "LLM-GUIDE.md"
BEGIN = "<!-- reference: written by docs/write_guide.py, do not edit below -->"
END = "<!-- end of the reference -->"
NAMESPACES: dict[str, type] = {
    "secrets": Secrets,
    "db": Db,
    "ddl": Ddl,
    "open": Open,
    "secure": Secure,
    "redis": Redis,
    "files": Files,
    "auth": Auth,
    "courier": Courier,
    "health": Health,
    "admin": Admin,
    "logs": Logs,
    "sessions": Sessions,
    "fastapi": FastAPINamespace,
    "portal": Portal,
}
FACTORIES: dict[str, type] = {
    "redis": RedisSessions,
    "postgres": PostgresSessions,
    "tigerbeetle": TigerBeetleSessions,
}
CONTRACT = (
    auth,
    guardian_records,
    guardian_entities,
    guardian_accounts,
    secrets,
    db,
    ddl,
    redis,
    file_shapes,
    health,
    session_calls,
    logs,
    courier_calls,
    portal_calls,
    admin,
)
FLAT = {names.__name__, link_names.__name__, account_names.__name__}
"""Modules of methods that are other names for methods that are told."""
USUAL = {"timeout", "schema", "reason", "actor"}
"""Parameters that mean the same everywhere: told once, at the beginning."""
_MODULES = re.compile(r"\b(?:builtins|contract|contextlib|httpx|pytest)\.")
_SECTION = re.compile(r"^(Args|Returns|Raises|Example|Attributes):$", re.MULTILINE)


# --- signatures and shapes as text


def annotation_text(value: Any) -> str:
    """Return a type as a person writes it."""
    text = value if isinstance(value, str) else getattr(value, "__name__", str(value))
    # Modules that are imported beside a function of the same name.
    return _MODULES.sub("", text).replace("native_", "")


class _Shown:
    """A default as a person writes it."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        return json.dumps(self._value) if isinstance(self._value, str) else repr(self._value)


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


def signature_text(name: str, target: Callable[..., Any]) -> str:
    """Return a public callable as the guide writes it; of overloads, the implementation that serves them all."""
    signature = inspect.signature(target)
    if inspect.isclass(target):
        return f"{name}{_parameters(signature)}"
    returned = annotation_text(signature.return_annotation)
    if returned.startswith("AsyncIterator["):
        how = "async for item in "
    elif name == "dominus.redis.lock" or returned.startswith("AsyncSession["):
        how = "async with "
    elif returned.startswith("Session["):
        how = "with "
    else:
        how = "await " if inspect.iscoroutinefunction(target) or returned == "Logged" else ""
    return f"{how}{name}{_parameters(signature)} -> {returned}"


def shape_text(name: str, shape: Any) -> str:
    """Return a TypedDict as the guide writes it; a field that may be absent carries `?`."""
    hints = get_type_hints(shape, include_extras=True)
    fields: list[str] = []
    for key, hint in hints.items():
        may_be_absent = not shape.__total__ or get_origin(hint) is NotRequired
        said = shape.__annotations__[key]
        text = annotation_text(getattr(said, "__forward_arg__", said))
        text = re.sub(r"^NotRequired\[(.*)\]$", r"\1", text)
        fields.append(f'"{key}"{"?" if may_be_absent else ""}: {text}')
    return f"{name} = {{{', '.join(fields)}}}"


# --- docstrings


@dataclass
class Described:
    """A docstring, taken apart."""

    summary: str
    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict[str, list[tuple[str, str]]])


def described(target: object) -> Described:
    """Take a Google-style docstring apart."""
    text = inspect.getdoc(target) or ""
    parts = _SECTION.split(text)
    found = Described(" ".join(parts[0].split("\n\n    ")[0].split()))
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        found.sections[title] = list(_entries(inspect.cleandoc(body)))
    return found


def _entries(body: str) -> Iterator[tuple[str, str]]:
    """Read `name: text` entries, whose text may go on in indented lines."""
    for entry in re.split(r"\n(?=\S)", body):
        name, colon, text = entry.partition(":")
        if colon and re.fullmatch(r"[*\w, ]+", name):
            yield name.strip("* "), " ".join(text.split())
        else:
            yield "", " ".join(entry.split())


def _method_lines(name: str, target: Callable[..., Any], *, is_usual_told: bool = True) -> Iterator[str]:
    told = described(target)
    yield f"- `{signature_text(name, target)}`"
    if told.summary:
        yield f"  {told.summary}"
    arguments = [
        f"`{argument}`: {text}"
        for argument, text in told.sections.get("Args", [])
        if not (is_usual_told and argument in USUAL)
    ]
    if arguments:
        yield "  " + "; ".join(text.rstrip(".") for text in arguments) + "."
    if returned := told.sections.get("Returns"):
        yield "  Returns " + "; ".join(f"{key}: {text}" if key else text for key, text in returned)
    if raised := told.sections.get("Raises"):
        yield "  Raises " + "; ".join(f"{kind}: {text.rstrip('.')}" for kind, text in raised) + "."


# --- what there is


def public_methods(prefix: str, owner: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Walk the public methods of a class."""
    for name, member in inspect.getmembers(owner, inspect.isfunction):
        if not name.startswith("_") and member.__module__.startswith("dominus"):
            yield f"{prefix}.{name}", member


def exported(prefix: str, module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Walk the functions, the classes and their methods that a module exports."""
    for name in module.__all__:
        member = getattr(module, name)
        if inspect.isclass(member) or inspect.isfunction(member):
            yield f"{prefix}{name}", member
        if inspect.isclass(member):
            yield from public_methods(f"{prefix}{name}", member)


def session_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Walk what makes and is a session."""
    for name, factory in FACTORIES.items():
        yield f"dominus.sessions.{name}", vars(factory)["__call__"]
        yield from public_methods(f"dominus.sessions.{name}", factory)
    for name, kind in (("async_session", AsyncSession), ("session", Session)):
        yield from public_methods(name, kind)
    # With a token in hand: `from dominus.sessions import redis, postgres, tigerbeetle`.
    yield from ((name, vars(sessions)[name]) for name in ("redis", "postgres"))
    yield "tigerbeetle", vars(TigerBeetle)["__call__"]


def client_callables() -> dict[str, Callable[..., Any]]:
    """Return everything that a program may call, by the name that the guide gives it."""
    found: dict[str, Callable[..., Any]] = {"Dominus": Dominus, "dominus": Dominus.__call__}
    found |= dict(public_methods("dominus", Dominus))
    for name, owner in NAMESPACES.items():
        found |= dict(public_methods(f"dominus.{name}", owner))
    found = {name: target for name, target in found.items() if target.__module__ not in FLAT}
    found |= dict(session_callables())
    found |= record_callables()
    return found | dict(public_methods("lease", Lease)) | dict(exported("crypto.", crypto))


def record_callables() -> dict[str, Callable[..., Any]]:
    """Return the methods of records, told once for roles, and of what belongs to them, told once for pages."""
    found = dict(public_methods("dominus.auth.roles", Roles))
    return found | dict(public_methods("dominus.auth.pages.scopes", ReplaceableLinks))


def shapes_of(callables: Iterable[Callable[..., Any]]) -> dict[str, Any]:
    """Return the TypedDicts that callables give back or take, with those inside them."""
    known: dict[str, Any] = {
        name: value
        for module in CONTRACT
        for name, value in vars(module).items()
        if hasattr(value, "__required_keys__") and f"{value.__module__}.".startswith(f"{module.__name__}.")
    } | {"QueryRows": QueryRows, "Stats": Stats, "LogStats": LogStats}
    said = " ".join(
        f"{text} {getattr(target, '__globals__', {}).get(text, '')}"  # an alias is told by what it stands for
        for target in callables
        if not inspect.isclass(target)
        for text in map(annotation_text, inspect.get_annotations(target).values())
    )
    found: dict[str, Any] = {}
    wanted = set(re.findall(r"\w+", said))
    while new := {name: known[name] for name in known if name in wanted and name not in found}:
        found |= new
        wanted = {word for shape in new.values() for word in re.findall(r"\w+", str(shape.__annotations__))}
    return found


# --- the page


def _shape_lines(callables: Iterable[Callable[..., Any]], told: set[str]) -> Iterator[str]:
    for name, shape in shapes_of(callables).items():
        if name not in told:
            told.add(name)
            yield f"\n`{shape_text(name, shape)}`\n{described(shape).summary}"


def _namespace(name: str, owner: type, told: set[str]) -> Iterator[str]:
    methods = dict(public_methods(f"dominus.{name}", owner))
    flat = {method: target for method, target in methods.items() if target.__module__ in FLAT}
    methods = {method: target for method, target in methods.items() if method not in flat}
    if name == "sessions":
        methods |= dict(session_callables())
    if name == "redis":
        methods |= dict(public_methods("lease", Lease))
    if name == "auth":
        methods |= record_callables()
    yield f"\n### {name}\n\n{inspect.getdoc(owner)}\n"
    if name == "auth":
        yield from _records()
    for method, target in methods.items():
        yield from _method_lines(method, target)
    if flat:
        yield "\nFlat names, and what they call:\n"
    for method, target in flat.items():
        yield f"- `{signature_text(method, target)}`: {described(target).summary.rpartition(': ')[2]}"
    yield from _shape_lines([*methods.values(), *flat.values()], told)


def _records() -> Iterator[str]:
    kinds = ", ".join(f"`dominus.auth.{calls.entity.plural}`" for calls in ENTITIES)
    links = ", ".join(f"`{calls.link.owner.plural}.{calls.link.name}`" for calls in LINKS)
    yield f"Each kind of record has a namespace of its own: {kinds}; they have the methods told below for roles."
    yield f"So has what belongs to a record: {links}; these have the methods told below for `pages.scopes`,"
    yield "without `set` where a page is not the owner. The flat names are the same calls.\n"


def _client(told: set[str]) -> Iterator[str]:
    methods = dict(public_methods("dominus", Dominus)) | {"dominus": Dominus.__call__}
    yield "\n### The client\n"
    yield from _method_lines("Dominus", Dominus, is_usual_told=False)
    for method, target in methods.items():
        yield from _method_lines(method, target)
    yield from _shape_lines(methods.values(), told)


def _operations() -> Iterator[str]:
    yield "\n### Operations\n\n`await dominus(NAME, **params)` and `dominus call NAME key=value` take these names, and"
    yield ", ".join(f"`{name}`" for name in callable_names() if name not in operations()) + ".\n"
    yield "| name | method | needs | a repeat | codes of its own |\n|---|---|---|---|---|"
    for service in services():
        for op in service.operations:
            method = METHOD_OF.get(op.name)
            needs = (
                f"`{op.scope}`"
                if op.scope
                else {"none": "nothing", "psk": "the PSK"}.get(op.auth.value, "a token")
            )
            called = f"`{method}`" if method else "the same"
            own = " ".join(f"`{code}`" for code in dict.fromkeys(op.errors))
            yield f"| `{op.name}` | {called} | {needs} | {op.retry.value} | {own} |"
    yield f"\nAny operation: {', '.join(f'`{code}`' for code in codes.COMMON)}; a write: `{codes.KEYED[0]}`."
    yield "\n`*` covers every scope. Beside these there are `metrics:read` and `gateway:<target>`, a session's."


def _error_codes() -> Iterator[str]:
    yield f"\n### Errors\n\n```text\n{inspect.getdoc(errors)}\n```\n"
    yield inspect.getdoc(errors.DominusError) or ""


def _testing() -> Iterator[str]:
    yield f"\n### dominus.testing\n\n{inspect.getdoc(testing)}\n\nFixtures of the pytest plugin:\n"
    for name in plugin.__all__:
        yield f"- `{name}`: {described(_fixture(name)).summary}"
    yield "\nFrom `dominus.testing`:\n"
    for name, target in exported("", testing):
        yield from _method_lines(name, target)


def _fixture(name: str) -> object:
    found = getattr(plugin, name)
    return getattr(found, "_fixture_function", found)


def _crypto() -> Iterator[str]:
    yield f"\n### dominus.crypto\n\n{inspect.getdoc(crypto)}\n"
    for name, target in exported("crypto.", crypto):
        yield from _method_lines(name, target)


def reference() -> str:
    """Return the reference, from the code as it is."""
    told: set[str] = set()
    lines = [*_client(told)]
    for name, owner in NAMESPACES.items():
        lines += _namespace(name, owner, told)
    lines += [*_error_codes(), *_operations(), *_crypto(), *_testing()]
    return "\n".join(line.rstrip() for line in lines).strip() + "\n"


def page_with(text: str, written: str) -> str:
    """Return the page with another reference."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{written}\n{END}{tail}"


def main() -> None:
    """Write the page, or with `--check` exit with 1 when it is not up to date."""
    text = PAGE.read_text(encoding="utf-8")
    fresh = page_with(text, reference())
    if "--check" in sys.argv:
        sys.exit(int(text != fresh))
    PAGE.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    main()
