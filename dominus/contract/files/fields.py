"""What a file's path, category and bytes may be, on both sides, before anything is looked for or written."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, StringConstraints

from dominus.contract.request import plain_text

__all__ = [
    "MAX_CATEGORY",
    "MAX_PATH",
    "MAX_SEGMENT",
    "Category",
    "Content",
    "ContentType",
    "Description",
    "FileId",
    "FilePath",
    "FolderPath",
    "Sha256",
    "Tags",
    "UserId",
    "known_text",
]

MAX_PATH = 1024
MAX_SEGMENT = 255
MAX_CATEGORY = 64
MAX_TAGS = 50
_CONTENT_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}(; ?[\w.-]{1,50}=[\w.+-]{1,100}){0,3}", re.ASCII)
_ID = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


def known_text(value: str) -> str:
    """Refuse what no name can carry, and what is no Unicode."""
    plain_text(value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be Unicode text") from None
    return value


def _segments(value: str) -> str:
    known_text(value)
    if "\\" in value:
        raise ValueError("must not contain a backslash")
    for segment in value.split("/"):
        if segment in {"", ".", ".."}:
            raise ValueError("must not have empty segments, `.` or `..`")
        if len(segment) > MAX_SEGMENT:
            raise ValueError(f"must not have a segment of more than {MAX_SEGMENT} characters")
    return value


def _file_path(value: str) -> str:
    if value.startswith("/"):
        raise ValueError("must be relative: no slash at its beginning")
    return _segments(value)


def _folder_path(value: str) -> str:
    """Return a folder without the slashes around it; the root is empty."""
    inner = value.removeprefix("/").removesuffix("/")
    return _segments(inner) if inner else ""


def _category(value: str) -> str:
    if "/" in value:
        raise ValueError("must not contain a slash")
    return _segments(value)


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain NUL characters")
    return value


def _content_type(value: str) -> str:
    if not _CONTENT_TYPE.fullmatch(value):
        raise ValueError("must be a media type such as `application/pdf`")
    return value.lower()


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("must be base64") from None
    raise ValueError("must be base64")


def _as_base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


FilePath = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_PATH, strict=True), AfterValidator(_file_path)
]
FolderPath = Annotated[str, StringConstraints(max_length=MAX_PATH, strict=True), AfterValidator(_folder_path)]
Category = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_CATEGORY, strict=True), AfterValidator(_category)
]
ContentType = Annotated[str, AfterValidator(_content_type)]
FileId = Annotated[str, StringConstraints(to_lower=True, pattern=_ID)]
Description = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_text)]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(known_text)]
Sha256 = Annotated[str, StringConstraints(to_lower=True, pattern="^[0-9a-fA-F]{64}$")]
Tags = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(known_text)],
        Annotated[str, StringConstraints(max_length=256), AfterValidator(known_text)],
    ],
    Field(max_length=MAX_TAGS),
]
Content = Annotated[
    bytes,
    BeforeValidator(_as_bytes, json_schema_input_type=str),
    PlainSerializer(_as_base64, return_type=str),
    Field(json_schema_extra={"type": "string", "format": "byte"}),
]
"""Bytes: base64 in JSON."""
