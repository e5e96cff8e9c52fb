"""What all namespaces share: the one way to send a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from dominus.contract.operation import Operation
from dominus.contract.request import Request
from dominus.errors import ServiceError, ValidationError
from dominus.hints import unknown_name

if TYPE_CHECKING:
    from dominus.caller import Caller
    from dominus.transport.encode import Lines

__all__ = ["Namespace", "as_list", "check_many", "check_seconds", "unwrap"]

Data = TypeVar("Data")
T = TypeVar("T")


class Namespace:
    """A group of operations. Every method takes `timeout=` in seconds and raises DominusError only."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        caller.core.touch()

    def __repr__(self) -> str:
        return f"<dominus.{type(self).__name__.lower()}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise unknown_name(self, name)

    async def _call(
        self,
        op: Operation[Any, Data],
        request: Request,
        *,
        timeout: float | None = None,
        lines: Lines | None = None,
    ) -> Data:
        return await self._caller.send(op, request, timeout=timeout, lines=lines)

    async def _ask(self, op: Operation[Any, Data], timeout: float | None, **fields: Any) -> Data:
        """Send an operation of the contract's tables, whose request is made from its fields."""
        return await self._call(op, op.request(**fields), timeout=timeout)


def as_list(values: Iterable[T], name: str) -> list[T]:
    """Return a list of what the caller gave as a sequence; one text, a mapping or a number is none."""
    check_many(values, name, "a list", Iterable)
    return list(values)


def check_many(values: object, name: str, wanted: str, kinds: type[Any] | tuple[type[Any], ...]) -> None:
    """Refuse what has no items of its own. Errors say its type: the value may be secret, or long."""
    kind = type(values).__name__
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, kinds):
        raise ValidationError(f"{name}: {wanted}, not {kind}")


def check_seconds(value: float, name: str) -> None:
    """Refuse what is no time to wait; zero is one, and so is infinity."""
    # What comes from an untyped caller may be anything; NaN is not greater than zero either.
    if not isinstance(value, (int, float)) or not value >= 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(f"{name}: {value!r} is not a number of seconds")


def unwrap(op: Operation[Any, Data], data: Data, read: Callable[[Data], T]) -> T:
    """Read a nested field of an answer; a server that sent something else is named."""
    try:
        return read(data)
    except (KeyError, TypeError, AttributeError):
        raise ServiceError(
            "the answer has the wrong shape", code="not_dominus", endpoint=op.name, retryable=False
        ) from None
