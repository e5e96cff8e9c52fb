"""What the operations of files answer."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

__all__ = [
    "Amount",
    "Categories",
    "CategoryAmount",
    "FetchedFile",
    "File",
    "FileBytes",
    "FileDeleted",
    "FileLink",
    "FilePage",
    "FilesReset",
    "Folder",
    "FolderCreated",
    "FolderDeleted",
    "FolderPage",
    "PartStored",
    "ResetCount",
    "StorageStats",
    "UploadAborted",
    "UploadParts",
    "UploadStarted",
    "View",
    "Views",
]


class File(TypedDict):
    """What is known of a file. `version` grows each time its content is replaced; `sha256` is of the whole content."""

    id: str
    filename: str
    path: str
    category: str
    size: int
    sha256: str
    content_type: str
    version: int
    tags: dict[str, str]
    description: str | None
    is_compliance: bool
    owner_user_id: str | None
    retained_until: str | None
    created_at: str
    updated_at: str


class FileLink(File):
    """A file, and where a plain GET without a token gives its bytes until `expires_at`."""

    download_url: str
    expires_at: str


class FetchedFile(TypedDict):
    """A whole file; `data` is base64."""

    data: str
    filename: str
    content_type: str
    size: NotRequired[int]
    sha256: NotRequired[str]


class FileBytes(TypedDict):
    """Bytes of a file in base64; who accepts `application/octet-stream` gets them as they are."""

    data: str


class FilePage(TypedDict):
    """Files in the order of category and path; `cursor` is None at the end."""

    objects: list[File]
    cursor: str | None
    count: int


class FileDeleted(TypedDict):
    """True when the file existed."""

    deleted: bool


class Folder(TypedDict):
    """A folder, with its name and its whole path."""

    name: str
    path: str


class FolderPage(TypedDict):
    """What lies in a folder: first folders, then files, each in the order of their names."""

    path: str
    folders: list[Folder]
    files: list[File]
    cursor: str | None


class Amount(TypedDict):
    """How many files, and their bytes."""

    object_count: int
    total_size_bytes: int


class StorageStats(TypedDict):
    """All files, and those of each category by its name."""

    total_objects: int
    total_size_bytes: int
    by_category: dict[str, Amount]


class CategoryAmount(Amount):
    """A category that has files."""

    name: str


class Categories(TypedDict):
    """Categories by name."""

    categories: list[CategoryAmount]


class View(TypedDict):
    """A way to look at files of all categories. Reserved ones need the scope `files:admin`."""

    name: str
    description: str
    is_reserved: bool


class Views(TypedDict):
    """All views that the caller may use."""

    views: list[View]
    total_views: int
    is_admin: bool


class FolderCreated(TypedDict):
    """`created` is false when the folder was there."""

    created: bool
    path: str
    placeholder_id: str
    message: str


class FolderDeleted(TypedDict):
    """`deleted_count` files went with it."""

    deleted: bool
    path: str
    deleted_count: int


class ResetCount(TypedDict):
    """Of one category."""

    deleted_count: int
    retained_count: int


class FilesReset(TypedDict):
    """What a reset deleted, and what it kept: compliance files, always those whose retention goes on."""

    reset: bool
    deleted_count: int
    retained_count: int
    by_category: dict[str, ResetCount]


class UploadStarted(TypedDict):
    """Each part but the last has `part_bytes` bytes; what is not finished by `expires_at` is forgotten."""

    upload_id: str
    part_bytes: int
    expires_at: str


class PartStored(TypedDict):
    """A part of an upload; numbers begin at 0."""

    number: int
    size: int
    sha256: str


class UploadParts(UploadStarted):
    """What has arrived of an upload."""

    parts: list[PartStored]


class UploadAborted(TypedDict):
    """True when the upload was in progress."""

    aborted: bool
