"""Path and method -> operations, built from the contract: one dict look-up for most routes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from dominus.contract.operation import Operation
from dominus.errors import DominusError, NotFoundError, ValidationError

__all__ = ["Match", "Routes"]


@dataclass(frozen=True, slots=True)
class Match:
    """The operations of one route (several where the body tells them apart) and the path's values."""

    operations: tuple[Operation[Any, Any], ...]
    path_values: dict[str, str]

    def select(self, body: dict[str, Any]) -> Operation[Any, Any]:
        """Return the operation that a body means.

        Raises:
            ValidationError: its selecting field names none.
        """
        first = self.operations[0]
        if first.select is None:
            return first
        name = first.select[0]
        wanted = body.get(name)
        for operation in self.operations:
            if operation.select is not None and wanted in operation.select[1]:
                return operation
        known = [value for operation in self.operations if operation.select for value in operation.select[1]]
        raise ValidationError(f"{name}: must be one of {', '.join(known)}", code="unknown_operation")


@dataclass(frozen=True, slots=True)
class _Pattern:
    segments: tuple[str, ...]
    operations: tuple[Operation[Any, Any], ...]

    def match(self, segments: list[str]) -> dict[str, str] | None:
        values: dict[str, str] = {}
        for wanted, given in zip(self.segments, segments, strict=True):
            if wanted[:1] == "{":
                values[wanted[1:-1]] = unquote(given)
            elif wanted != given:
                return None
        return values


class Routes:
    """All routes of the contract."""

    def __init__(self, operations: Iterable[Operation[Any, Any]]) -> None:
        by_route: dict[tuple[str, str], list[Operation[Any, Any]]] = {}
        for operation in operations:
            by_route.setdefault((operation.method, operation.path), []).append(operation)
        self._fixed: dict[tuple[str, str], Match] = {}
        self._patterns: dict[tuple[str, int], list[_Pattern]] = {}
        self._methods: set[str] = set()
        for (method, path), found in by_route.items():
            self._methods.add(method)
            if len(found) > 1 and any(operation.select is None for operation in found):
                raise RuntimeError(f"{method} {path} is declared twice")
            if "{" in path:
                segments = tuple(path.split("/"))
                patterns = self._patterns.setdefault((method, len(segments)), [])
                patterns.append(_Pattern(segments, tuple(found)))
            else:
                self._fixed[method, path] = Match(tuple(found), {})

    def find(self, method: str, path: str) -> Match:
        """Return the match of a request; `path` is raw, so that an encoded slash stays part of its segment.

        Raises:
            NotFoundError: no such route.
            DominusError: 405, the route exists with another method.
        """
        found = self._find(method, path)
        if found is not None:
            return found
        allowed = sorted(other for other in self._methods if self._find(other, path) is not None)
        if allowed:
            raise DominusError(
                f"{method} is not allowed here, only {', '.join(allowed)}",
                code="method_not_allowed",
                status_code=405,
                details={"allow": allowed},
            )
        raise NotFoundError(f"there is no route {path[:200]!r}", code="unknown_route")

    def _find(self, method: str, path: str) -> Match | None:
        fixed = self._fixed.get((method, path))
        if fixed is not None:
            return fixed
        segments = path.split("/")
        for pattern in self._patterns.get((method, len(segments)), ()):
            values = pattern.match(segments)
            if values is not None:
                return Match(pattern.operations, values)
        return None
