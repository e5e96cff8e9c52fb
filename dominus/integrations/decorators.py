"""Guards as decorators of route functions: the signature that FastAPI reads gets a dependency more."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, TypeVar
from weakref import WeakKeyDictionary

from fastapi import Depends

from dominus.errors import ValidationError
from dominus.hints import WrongUseError
from dominus.integrations.guards import Guard
from dominus.integrations.principal import Principal

__all__ = ["check_order", "guarded"]

R = TypeVar("R")
_SLOT = "dominus_principal"
_DECORATED: WeakKeyDictionary[Callable[..., Any], str] = WeakKeyDictionary()
"""The functions below our decorators, by which a route that goes around one is found."""


def guarded(function: Callable[..., R], guard: Guard, wanted: str) -> Callable[..., R]:
    """Return a route function that runs for whom `guard` lets pass.

    Args:
        function: `def` or `async def`; its own signature stays what FastAPI reads.
        guard: a dependency.
        wanted: the parameter that is given the claims, if the function has it.
    """
    if not callable(function):
        raise ValidationError(
            f"{function!r} is no function",
            hint='write @dominus.fastapi.jwt without parentheses, and scopes(["orders:read"]) with a list',
        )
    signature = _signature(function)
    is_wanted = wanted in signature.parameters
    slot = _SLOT
    while slot in signature.parameters:
        slot += "_"

    def filled(kwargs: dict[str, Any]) -> dict[str, Any]:
        principal = kwargs.pop(slot, None)
        if not isinstance(principal, Principal):
            # Nothing but FastAPI fills it: whoever calls it otherwise has not been checked.
            raise WrongUseError(
                f"{function!r} is guarded, and was not called by FastAPI",
                hint="in a test call its __wrapped__",
            )
        return {**kwargs, wanted: dict(principal.claims)} if is_wanted else kwargs

    wrapper = _wrapped(function, filled)
    parameters = [each for name, each in signature.parameters.items() if not (is_wanted and name == wanted)]
    hidden = inspect.Parameter(
        slot, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[Principal, Depends(guard)]
    )
    at = len(parameters) - (bool(parameters) and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD)
    parameters.insert(at, hidden)
    vars(wrapper)["__signature__"] = signature.replace(parameters=parameters)
    _DECORATED[function] = wanted
    return wrapper


def _wrapped(
    function: Callable[..., Any], filled: Callable[[dict[str, Any]], dict[str, Any]]
) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **filled(kwargs))

        return call

    # FastAPI runs it in a thread, as it would the function itself, and knows a generator by `__wrapped__`.
    @functools.wraps(function)
    def call_plain(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **filled(kwargs))

    return call_plain


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:  # noqa: BLE001 - any annotation may fail in any way; FastAPI says which, as it does without us
        return inspect.signature(function)


def check_order(routes: Iterable[Any]) -> None:
    """Refuse an application with a route that leads to a guarded function around its guard.

    Raises:
        WrongUseError: a guard stands above a route's decorator, which so has registered the bare function.
    """
    for route in _each(routes):
        endpoint = getattr(route, "endpoint", None)
        if inspect.isfunction(endpoint) and endpoint in _DECORATED:
            raise WrongUseError(
                f"{getattr(route, 'path', '')}: the route leads to {endpoint.__qualname__} around its guard",
                hint="write the route's decorator (@app.get) above the guard (@dominus.fastapi...)",
            )


def _each(routes: Iterable[Any]) -> Iterator[Any]:
    for route in routes:
        yield route
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        yield from _each(getattr(inner, "routes", None) or ())
