"""What errors say about how a thing is written right: the nearest name, the other statement, a command that works."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NoReturn, ParamSpec, TypeVar

from dominus.errors import ValidationError

__all__ = [
    "WrongUseError",
    "install_command",
    "iterator",
    "nearest",
    "refuses",
    "shell_command",
    "unknown_name",
]

C = TypeVar("C", bound=type[Any])
P = ParamSpec("P")
T = TypeVar("T")

_METHODS = {
    "with": ("__enter__", "__exit__"),
    "async with": ("__aenter__", "__aexit__"),
    "await": ("__await__",),
    "for": ("__iter__",),
}
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "add": ("insert", "add_table", "add_column"),
    "cache": ("redis",),
    "create": ("insert", "add_table"),
    "database": ("db",),
    "execute": ("query",),
    "exists": ("get", "query"),
    "fetch": ("query", "get"),
    "find": ("query", "get"),
    "put": ("upsert", "set"),
    "read": ("query", "get"),
    "remove": ("delete",),
    "save": ("upsert", "insert", "set"),
    "schema": ("ddl",),
    "select": ("query",),
    "session": ("sessions",),
    "store": ("upsert", "insert", "set"),
    "upsert": ("insert",),
    "vault": ("secrets",),
    "write": ("upsert", "insert", "set"),
}
"""What other libraries call it; the first that is there is meant."""


class WrongUseError(ValidationError, TypeError):
    """An object is used in a statement that it is not for."""

    default_code = "wrong_use"


def refuses(*statements: str, instead: str) -> Callable[[C], C]:
    """Let objects of a class say how they are used, where Python would say that a protocol is missing.

    Type checkers do not see what is added, and so still find the mistake before it runs.

    Args:
        statements: of `with`, `async with`, `await` and `for`.
        instead: how it is written.
    """

    def decorate(kind: C) -> C:
        for statement in statements:
            for name in _METHODS[statement]:
                setattr(kind, name, _refusal(statement, instead))
        return kind

    return decorate


def _refusal(statement: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(self: object, *_: object) -> NoReturn:
        raise WrongUseError(f"`{statement}` is not for {self!r}", hint=f"write `{instead}`")

    return refuse


@refuses("await", "for", instead="async for item in ...")
class _Items(AsyncIterator[T]):
    """An asynchronous generator that says how it is used."""

    def __init__(self, items: AsyncIterator[T], name: str) -> None:
        self._items = items
        self._name = name

    def __repr__(self) -> str:
        return f"the iterator of {self._name}"

    def __aiter__(self) -> AsyncIterator[T]:  # noqa: PYI034
        # The loop runs on the generator itself: nothing is added to an item.
        return self._items

    def __anext__(self) -> Any:
        return self._items.__anext__()

    def __getattr__(self, name: str) -> Any:
        # aclose, asend and athrow are the generator's.
        return getattr(self._items, name)


def iterator(method: Callable[P, AsyncIterator[T]]) -> Callable[P, AsyncIterator[T]]:
    """Let what an asynchronous generator method returns say that it is for `async for`."""

    @functools.wraps(method)
    def made(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return _Items(method(*args, **kwargs), f"{method.__name__}()")

    return made


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant."""
    import difflib

    meant = {other: other for other in known if not other.startswith("_")}
    for word, others in SYNONYMS.items():
        there = next((other for other in others if other in meant), None)
        if there is not None:
            meant.setdefault(word, there)
    close = difflib.get_close_matches(name, meant, n=1)
    return meant[close[0]] if close else None


def unknown_name(owner: object, name: str) -> AttributeError:
    """Return the error for an attribute that an object has not, with the nearest one that it has."""
    if name.startswith("_"):
        # Python itself asks for these, of objects that are not made yet too.
        return AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}")
    known = [other for other in dir(type(owner)) if not other.startswith("_")]
    near = nearest(name, known)
    more = f"did you mean {near!r}?" if near else f"it has {', '.join(known)}"
    return AttributeError(f"{owner!r} has no {name!r}; {more}")


def shell_command(arguments: str = "") -> str:
    """Return a `dominus` command line as it can be typed here: a virtual environment need not be activated."""
    return " ".join(filter(None, [_program(), arguments]))


def install_command(extra: str) -> str:
    """Return what installs an extra of this package here, from the clone where it came from one."""
    source = _clone() or "dominus-sdk"
    return f"{_short(sys.executable)} -m pip install {source + '[' + extra + ']'!r}"


def _clone() -> str | None:
    import json
    from importlib import metadata
    from urllib.parse import unquote, urlsplit

    try:
        found = metadata.distribution("dominus-sdk").read_text("direct_url.json")
        url = urlsplit(str(json.loads(found or "{}").get("url", "")))
    except (metadata.PackageNotFoundError, ValueError):
        return None
    folder = unquote(url.path)
    return _short(folder) if url.scheme == "file" and os.path.isdir(folder) else None  # noqa: PTH112


def _program() -> str:
    import shutil

    if shutil.which("dominus") is not None:
        return "dominus"
    beside = os.path.join(os.path.dirname(sys.executable), "dominus")  # noqa: PTH118, PTH120 - pathlib is slow to load
    if not os.access(beside, os.X_OK):
        return f"{_short(sys.executable)} -m dominus"
    return _short(beside)


def _short(path: str) -> str:
    here = os.path.relpath(path)
    return path if here.startswith("..") else here
