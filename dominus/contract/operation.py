"""An operation of the contract: declared once, used by the client, the server, OpenAPI and the docs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, NotRequired, TypedDict, TypeVar, get_origin, get_type_hints

from typing_extensions import Unpack

from dominus.contract.codes import COMMON, KEYED
from dominus.contract.kinds import Auth, Retry
from dominus.contract.request import Request

__all__ = ["Operation", "Service"]

Req = TypeVar("Req", bound="Request")
Data = TypeVar("Data")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[Req, Data]):
    """One call of the contract.

    `result` is the TypedDict of the answer's `data`. Scopes read `service:verb`.
    """

    name: str
    """The method that calls it, for example `redis.set`."""
    service: str
    """The service that answers, and whose breaker guards it."""
    method: str
    path: str
    """A template; `{field}` is filled from the request's field of that (wire) name."""
    request: type[Req]
    result: type[Data]
    scope: str | None
    """None: any authenticated caller, or anyone when `auth` is NONE."""
    retry: Retry
    summary: str = ""
    auth: Auth = Auth.TOKEN
    select: tuple[str, tuple[str, ...]] | None = None
    """(body field, values): tells apart the operations that share a route."""
    list_key: str | None = None
    """Some servers answer with the bare list of this key."""
    is_plain: bool = False
    """The answer is JSON without the envelope, in either dialect."""
    is_streamed: bool = False
    """The body may be a stream of JSON lines, which no body limit bounds."""
    raw_field: str | None = None
    """The field that may be the whole body, as raw bytes; all others stand in the path then."""
    is_raw: bool = False
    """The answer's `data` is `{"data": base64}`; who accepts `application/octet-stream` gets the bytes alone."""
    is_lines: bool = False
    """Who accepts `application/x-ndjson` gets the rows as a stream of any length, others in `items`."""
    errors: tuple[str, ...] = ()
    """The codes of its own failures, beside those that any operation has (COMMON)."""
    path_fields: dict[str, str] = field(init=False)
    """Placeholder in the path -> attribute of the request."""

    def __post_init__(self) -> None:
        fields = self.request.model_fields
        by_wire_name = {info.alias or name: name for name, info in fields.items()}
        placeholders: list[str] = re.findall(r"{(\w+)}", self.path)
        object.__setattr__(self, "path_fields", {name: by_wire_name[name] for name in placeholders})

    @property
    def codes(self) -> frozenset[str]:
        """Every code that it may answer a caller's mistake with."""
        keyed = KEYED if self.retry is Retry.KEYED else ()
        return frozenset((*COMMON, *keyed, *self.errors))

    @property
    def required_keys(self) -> frozenset[str]:
        """The keys that an answer's `data` must have."""
        return _required_keys(self.result)

    @property
    def is_list(self) -> bool:
        """Whether an answer's `data` is a list, not an object."""
        return get_origin(self.result) is list


@cache
def _required_keys(result: Any) -> frozenset[str]:
    result = get_origin(result) or result
    # `__required_keys__` does not see NotRequired where annotations are strings, as they are here.
    declared: frozenset[str] = getattr(result, "__required_keys__", frozenset())
    hints = get_type_hints(result, include_extras=True) if declared else {}
    return frozenset(name for name in declared if get_origin(hints[name]) is not NotRequired)


class Traits(TypedDict, total=False):
    """What is not usual of an operation; see Operation for the meaning."""

    auth: Auth
    select: tuple[str, tuple[str, ...]]
    list_key: str
    is_plain: bool
    is_streamed: bool
    raw_field: str
    is_raw: bool
    is_lines: bool
    errors: tuple[str, ...]


class Service:
    """A group of operations: one namespace of the client, one set of handlers, one circuit breaker.

    `read` and `write` declare its operations, a line for each:

        redis = Service("redis", "/api/whisperer")
        GET = redis.read("get", GetRequest, Found, "Read a value.")
    """

    def __init__(self, name: str, prefix: str, *, namespace: str | None = None) -> None:
        """Name it as users know it; the prefix of its routes is what the published client calls it.

        Args:
            name: what its breaker and its metrics are called by.
            prefix: of its routes.
            namespace: where users find its operations, and what its scopes begin with; the name without it.
        """
        self.name = name
        self.namespace = namespace or name
        self.prefix = prefix
        self.operations: list[Operation[Any, Any]] = []

    def read(
        self,
        name: str,
        request: type[Req],
        result: type[Data],
        summary: str,
        *,
        path: str | None = None,
        method: str = "POST",
        scope: str | None = "",
        retry: Retry = Retry.READ,
        **traits: Unpack[Traits],
    ) -> Operation[Req, Data]:
        """Declare an operation that changes nothing, or the same however often it is sent: repeating it is safe.

        Args:
            name: below the service, or whole where it has a dot.
            request: the model of its body.
            result: the TypedDict of the answer's data.
            summary: what it does, a sentence.
            path: below the service's prefix, or absolute with a leading slash; the name without it.
            method: of HTTP.
            scope: what the caller needs, None for nothing; `<service>:read` without it.
            retry: whether repeating it is safe.
            **traits: what else is not usual.
        """
        made = Operation(
            name=name if "." in name else f"{self.namespace}.{name}",
            service=self.name,
            method=method,
            path=path if path and path.startswith("/") else f"{self.prefix}/{path or name}",
            request=request,
            result=result,
            scope=f"{self.namespace}:read" if scope == "" else scope,
            retry=retry,
            summary=summary,
            **traits,
        )
        self.operations.append(made)
        return made

    def write(
        self,
        name: str,
        request: type[Req],
        result: type[Data],
        summary: str,
        *,
        path: str | None = None,
        method: str = "POST",
        scope: str | None = "",
        retry: Retry = Retry.KEYED,
        **traits: Unpack[Traits],
    ) -> Operation[Req, Data]:
        """Declare an operation that changes something: it carries an idempotency key; arguments as for `read`."""
        usual = f"{self.namespace}:write" if scope == "" else scope
        return self.read(
            name,
            request,
            result,
            summary,
            path=path,
            method=method,
            scope=usual,
            retry=retry,
            **traits,
        )
