"""What the operations of files take."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from dominus.contract.files.fields import (
    MAX_PATH,
    Category,
    Content,
    ContentType,
    Description,
    FileId,
    FilePath,
    FolderPath,
    Sha256,
    Tags,
    UserId,
    known_text,
)
from dominus.contract.request import Example, Omit, Request

__all__ = [
    "MAX_PAGE",
    "MAX_PARTS",
    "MAX_SIZE",
    "PART_BYTES",
    "AsActor",
    "BrowseRequest",
    "DownloadRequest",
    "FileFacts",
    "FileRef",
    "FinishUpload",
    "FolderDelete",
    "FolderRequest",
    "ListRequest",
    "MoveRequest",
    "PutPart",
    "ReadRequest",
    "ResetRequest",
    "StartUpload",
    "UpdateRequest",
    "UploadRef",
    "UploadRequest",
    "ViewRequest",
    "ViewsRequest",
    "facts_of",
]

MAX_PAGE = 1000
MAX_PARTS = 10_000
PART_BYTES = 8 * 1024 * 1024
"""Of each part but the last, unless the server's body limit is smaller; and of one answer of `read`."""
MAX_LINK_SECONDS = 7 * 86_400
MAX_RETENTION_DAYS = 36_500
MAX_SIZE = PART_BYTES * MAX_PARTS
_ID = "7d8f0f4e-5a3b-4f0e-9a51-2f3b8e7c6d10"
_SHA256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


class FileRef(Request):
    """Names a file: its id, or its path (with its category, `general` without one)."""

    example: ClassVar[Example] = {"id": _ID}

    id: Annotated[Omit[FileId], Field(title="file_id")]
    category: Omit[Category]
    logical_path: Annotated[Omit[FilePath], Field(title="path")]

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        if self.id is None and self.logical_path is None:
            raise ValueError("needs file_id, or path")
        return self


class AsActor(FileRef):
    """Names a file; `actor_user_id` says for whom, which compliance files ask for."""

    actor_user_id: Annotated[Omit[UserId], Field(title="actor")]


class FileFacts(Request):
    """What a new file is called and kept as."""

    filename: FilePath
    category: Category = "general"
    logical_path: Annotated[Omit[FilePath], Field(title="path")]
    content_type: Omit[ContentType]
    tags: Omit[Tags]
    is_compliance: Annotated[bool, Field(title="compliance")] = False
    retention_days: Annotated[int, Field(ge=1, le=MAX_RETENTION_DAYS)] = 90
    owner_user_id: Annotated[Omit[UserId], Field(title="actor")]

    @model_validator(mode="after")
    def _has_owner(self) -> Self:
        if self.is_compliance and self.owner_user_id is None:
            raise ValueError("a compliance file needs an owner: actor=")
        return self


class UploadRequest(FileFacts):
    """Store a file in one call."""

    example: ClassVar[Example] = {
        "filename": "hello.txt",
        "file_content": "aGVsbG8=",
        "category": "notes",
        "logical_path": "letters/hello.txt",
        "tags": {"lang": "en"},
    }

    file_content: Annotated[Content, Field(title="data")]
    sha256: Omit[Sha256]


class DownloadRequest(AsActor):
    """Ask for a link."""

    example: ClassVar[Example] = {"id": _ID, "expires_seconds": 600}

    expires_seconds: Annotated[int, Field(ge=1, le=MAX_LINK_SECONDS)] = 3600


class ReadRequest(AsActor):
    """Ask for bytes; `version` makes sure that they are of the content that was seen before."""

    example: ClassVar[Example] = {"id": _ID, "offset": 1, "length": 3}

    offset: Annotated[int, Field(ge=0, le=MAX_SIZE)] = 0
    length: Annotated[int, Field(ge=0, le=PART_BYTES)] = PART_BYTES
    version: Omit[Annotated[int, Field(ge=1, le=2**31 - 1)]]


class _Paged(Request):
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100
    cursor: Omit[Annotated[str, StringConstraints(max_length=8192)]]


class ListRequest(_Paged):
    """List files, by category and by the beginning of their paths."""

    example: ClassVar[Example] = {"category": "notes", "prefix": "letters/", "limit": 100}

    category: Omit[Category]
    prefix: Omit[Annotated[str, StringConstraints(max_length=MAX_PATH), AfterValidator(known_text)]]


class BrowseRequest(_Paged):
    """Look into a folder."""

    example: ClassVar[Example] = {"path": "/letters", "category": "notes", "limit": 100}

    path: FolderPath = ""
    category: Omit[Category]
    view: Omit[Annotated[str, StringConstraints(max_length=64), AfterValidator(known_text)]]


class MoveRequest(Request):
    """Give a file another path, another category, or both."""

    example: ClassVar[Example] = {"id": _ID, "new_logical_path": "archive/hello.txt"}

    id: Annotated[FileId, Field(title="file_id")]
    new_category: Omit[Category]
    new_logical_path: Annotated[Omit[FilePath], Field(title="new_path")]

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if self.new_category is None and self.new_logical_path is None:
            raise ValueError("needs new_category, or new_path")
        return self


class UpdateRequest(Request):
    """Replace tags, description, or both; what is not given stays."""

    example: ClassVar[Example] = {"id": _ID, "tags": {"lang": "it"}, "description": "A letter."}

    id: Annotated[FileId, Field(title="file_id")]
    tags: Omit[Tags]
    description: Omit[Description]


class ViewsRequest(Request):
    """List views."""

    example: ClassVar[Example] = {"include_reserved": False}

    include_reserved: bool = False


class ViewRequest(Request):
    """Name a view."""

    example: ClassVar[Example] = {"view": "documents"}

    view: Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(known_text)]


class FolderRequest(Request):
    """Name a folder; its category is `general` without one."""

    example: ClassVar[Example] = {"path": "/letters/2026", "category": "notes"}

    path: FolderPath
    category: Omit[Category]

    @model_validator(mode="after")
    def _is_no_root(self) -> Self:
        if not self.path:
            raise ValueError("needs a path: the root is always there")
        return self


class FolderDelete(FolderRequest):
    """Delete a folder; with `force` all files in it, too."""

    example: ClassVar[Example] = {**FolderRequest.example, "force": True}

    force: bool = False


class ResetRequest(Request):
    """Delete all files of the project and environment."""

    example: ClassVar[Example] = {"confirm": True, "preserve_compliance": True}

    confirm: bool = False
    preserve_compliance: bool = True


class StartUpload(FileFacts):
    """Begin an upload in parts."""

    example: ClassVar[Example] = {
        "filename": "film.mp4",
        "category": "media",
        "logical_path": "films/film.mp4",
    }


class UploadRef(Request):
    """Name an upload."""

    example: ClassVar[Example] = {"upload_id": _ID}

    upload_id: FileId


class PutPart(UploadRef):
    """Send a part, as the raw bytes of the body or as base64 in JSON."""

    example: ClassVar[Example] = {
        "upload_id": _ID,
        "number": 0,
        "sha256": _SHA256,
        "content": "aGVsbG8=",
    }

    number: Annotated[int, Field(ge=0, lt=MAX_PARTS)]
    sha256: Sha256
    content: Annotated[Content | None, Field(title="data")] = None


class FinishUpload(UploadRef):
    """Make a file of the parts."""

    example: ClassVar[Example] = {"upload_id": _ID, "sha256": _SHA256, "size": 5}

    sha256: Sha256
    size: Annotated[int, Field(ge=0, le=MAX_SIZE)]


def facts_of(request: FileFacts) -> dict[str, Any]:
    """Return the facts alone, of a request that says more."""
    return {name: getattr(request, name) for name in FileFacts.model_fields}
