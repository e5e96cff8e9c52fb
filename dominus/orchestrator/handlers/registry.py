"""Which function answers an operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from dominus.contract.operation import Operation, Service
from dominus.contract.request import Request
from dominus.orchestrator.handlers.context import Context, RawBytes, RawJson, RawLines

__all__ = ["Handler", "Handlers"]

Req = TypeVar("Req", bound=Request)
Data = TypeVar("Data")
Handler = Callable[[Context, Any], Awaitable[Any]]


class Handlers:
    """The handlers of one service.

    handlers = Handlers(contract.redis)

    @handlers(contract.GET)
    async def get_value(ctx: Context, request: contract.GetRequest) -> contract.Found: ...
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self._by_name: dict[str, Handler] = {}

    def __call__(
        self, operation: Operation[Req, Data]
    ) -> Callable[
        [Callable[[Context, Req], Awaitable[Data | RawJson | RawBytes | RawLines]]],
        Callable[[Context, Req], Awaitable[Data | RawJson | RawBytes | RawLines]],
    ]:
        """Make a function the one handler of an operation of this service."""
        if operation.service != self.service.name or operation.name in self._by_name:
            raise RuntimeError(f"operation {operation.name} has two handlers, or is another service's")

        def register(
            handler: Callable[[Context, Req], Awaitable[Data | RawJson | RawBytes | RawLines]],
        ) -> Callable[[Context, Req], Awaitable[Data | RawJson | RawBytes | RawLines]]:
            self._by_name[operation.name] = cast("Handler", handler)
            return handler

        return register

    def all(self) -> Mapping[str, Handler]:
        """Return them by the names of their operations.

        Raises:
            RuntimeError: an operation of the service has none.
        """
        missing = {operation.name for operation in self.service.operations} - self._by_name.keys()
        if missing:
            raise RuntimeError(f"operations without a handler: {', '.join(sorted(missing))}")
        return self._by_name
