"""An operation of the contract: declared once, used by the client, the server, OpenAPI and the docs."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Generic, NotRequired, TypeVar, get_origin, get_type_hints

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from dominus.errors import ValidationError

__all__ = ["Auth", "Identifier", "Omit", "Operation", "Request", "Retry", "is_none", "plain_text"]

Req = TypeVar("Req", bound="Request")
Data = TypeVar("Data")
T = TypeVar("T")
_CONTROL = re.compile("[\x00-\x1f\x7f]")


class Retry(enum.Enum):
    """Whether repeating an operation is safe."""

    READ = "read"
    """It changes nothing: repeat freely."""
    KEYED = "keyed"
    """A write that carries an idempotency key: repeat when the server keeps keys."""
    NEVER = "never"
    """Repeat only what never left this machine."""


class Auth(enum.Enum):
    """What the `Authorization` header of an operation carries."""

    TOKEN = "token"  # noqa: S105 - a name, not a secret
    """The service JWT, or the user's on `as_user`."""
    PSK = "psk"
    """The pre-shared key itself: the mint."""
    SESSION = "session"
    """A gateway session token, which opens nothing else."""
    NONE = "none"


def is_none(value: object) -> bool:
    """Tell whether an optional field stays off the wire."""
    return value is None


Omit = Annotated[T | None, Field(default=None, exclude_if=is_none)]
"""An optional field that stays off the wire when it is None."""


def plain_text(value: str) -> str:
    """Refuse the characters that no name, key or path can carry."""
    if _CONTROL.search(value):
        raise ValueError("must not contain control characters")
    return value


Identifier = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(plain_text)]
"""The name of a schema, table or column; whether it exists is the server's to say."""


if TYPE_CHECKING:
    _Model = BaseModel
else:

    class _Raising(type(BaseModel)):
        # Not in __init__: pydantic would call that for nested models too, and lose where in the request they are.
        def __call__(cls, **data: Any) -> Any:
            try:
                return super().__call__(**data)
            except pydantic.ValidationError as error:
                raise _as_validation_error(cls, error) from None

    class _Model(BaseModel, metaclass=_Raising):
        pass


class Request(_Model):
    """The base of all request models. A wrong value raises dominus.ValidationError, on both sides."""

    model_config = ConfigDict(
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        hide_input_in_errors=True,
        ser_json_inf_nan="constants",
    )


_PLAIN_WORDS = {
    "Value error, ": "",
    "Input should be": "must be",
    "Field required": "is missing",
    "Extra inputs are not permitted": "is not known",
}


def _plain_words(message: str) -> str:
    for theirs, ours in _PLAIN_WORDS.items():
        message = message.replace(theirs, ours)
    return message


def _as_validation_error(model: type[BaseModel], error: pydantic.ValidationError) -> ValidationError:
    details: list[dict[str, str]] = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        head, *rest = item["loc"] or ("request",)
        known = model.model_fields.get(str(head))
        name = (known.title or known.alias if known else None) or str(head)
        where = ".".join([name, *(str(part) for part in rest)])
        details.append({"field": where, "message": _plain_words(item["msg"])})
    said = "; ".join(f"{item['field']}: {item['message']}" for item in details[:5])
    return ValidationError(said, details=details)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[Req, Data]):
    """One call of the contract.

    `result` is the TypedDict of the answer's `data`. Scopes read `service:verb`.
    """

    name: str
    """The method that calls it, for example `redis.set`."""
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
    is_own: bool = False
    """Ours: servers of the published client do not know it."""
    service: str = field(init=False)
    """The service that answers, and whose breaker guards it."""
    path_fields: dict[str, str] = field(init=False)
    """Placeholder in the path -> attribute of the request."""

    def __post_init__(self) -> None:
        fields = self.request.model_fields
        by_wire_name = {info.alias or name: name for name, info in fields.items()}
        placeholders: list[str] = re.findall(r"{(\w+)}", self.path)
        object.__setattr__(self, "service", self.service_of(self.path))
        object.__setattr__(self, "path_fields", {name: by_wire_name[name] for name in placeholders})

    @staticmethod
    def service_of(path: str) -> str:
        """Return the service that a path belongs to; the published gateway routes have none in theirs."""
        parts = path.split("/")
        return "gateway" if path.startswith(("/api/v1/", "/v1/")) else parts[2]

    @property
    def required_keys(self) -> frozenset[str]:
        """The keys that an answer's `data` must have."""
        return _required_keys(self.result)


@cache
def _required_keys(result: type) -> frozenset[str]:
    # `__required_keys__` does not see NotRequired where annotations are strings, as they are here.
    declared: frozenset[str] = getattr(result, "__required_keys__", frozenset())
    hints = get_type_hints(result, include_extras=True) if declared else {}
    return frozenset(name for name in declared if get_origin(hints[name]) is not NotRequired)
