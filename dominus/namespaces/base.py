"""What all namespaces share: the one way to send a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from dominus.contract.operation import Operation, Request
from dominus.errors import ServiceError

if TYPE_CHECKING:
    from dominus.caller import Caller
    from dominus.transport.pipeline import Lines

__all__ = ["Namespace"]

Data = TypeVar("Data")
T = TypeVar("T")


class Namespace:
    """A group of operations. Every method takes `timeout=` in seconds and raises DominusError only."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def __repr__(self) -> str:
        return f"<dominus.{type(self).__name__.lower()}>"

    async def _call(
        self,
        op: Operation[Any, Data],
        request: Request,
        *,
        timeout: float | None = None,
        lines: Lines | None = None,
    ) -> Data:
        return await self._caller.send(op, request, timeout=timeout, lines=lines)


def unwrap(op: Operation[Any, Data], data: Data, read: Callable[[Data], T]) -> T:
    """Read a nested field of an answer; a server that sent something else is named."""
    try:
        return read(data)
    except (KeyError, TypeError, AttributeError):
        raise ServiceError(
            "the answer has the wrong shape", code="not_dominus", endpoint=op.name, retryable=False
        ) from None
