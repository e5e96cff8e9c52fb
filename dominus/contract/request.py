"""The base of all request models, and the types that their fields share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, get_args

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from dominus.contract.suggestion import suggestion
from dominus.errors import ValidationError

__all__ = ["Empty", "Example", "Identifier", "Omit", "Request", "is_none", "plain_text"]

T = TypeVar("T")
Example = Mapping[str, Any]
"""A request by its wire names."""
_CONTROL = re.compile("[\x00-\x1f\x7f]")


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

    example: ClassVar[Example] = {}
    """A request as it travels: what OpenAPI, `dominus call --help` and the tests show and send."""

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
    hint: str | None = None
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        head, *rest = item["loc"] or ("request",)
        known = model.model_fields.get(str(head))
        name = (known.title or known.alias if known else None) or str(head)
        where = ".".join([name, *(str(part) for part in rest)])
        details.append({"field": where, "message": _plain_words(item["msg"])})
        if item["type"] == "extra_forbidden" and hint is None:
            hint = suggestion(
                str(item["loc"][-1]), _known_fields(model, item["loc"][:-1]), lists="fields are"
            )
    said = "; ".join(f"{item['field']}: {item['message']}" for item in details[:5])
    return ValidationError(said, details=details, hint=hint)


def _known_fields(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Return the fields of the model at a place of a request, as they are called on the wire."""
    for part in path:
        if isinstance(part, str):
            names = {info.alias or name: info for name, info in model.model_fields.items()}
            info = names.get(part) or model.model_fields.get(part)
            inner = _model_in(info.annotation) if info else None
            if inner is None:
                return []
            model = inner
    return [info.alias or name for name, info in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


class Empty(Request):
    """No parameters."""
