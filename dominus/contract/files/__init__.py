"""files: bytes under a path, with what is known of them; small ones in one call, large ones in parts."""

from __future__ import annotations

from dominus.contract.files.requests import (
    MAX_PAGE,
    MAX_PARTS,
    MAX_SIZE,
    PART_BYTES,
    AsActor,
    BrowseRequest,
    DownloadRequest,
    FileFacts,
    FileRef,
    FinishUpload,
    FolderDelete,
    FolderRequest,
    ListRequest,
    MoveRequest,
    PutPart,
    ReadRequest,
    ResetRequest,
    StartUpload,
    UpdateRequest,
    UploadRef,
    UploadRequest,
    ViewRequest,
    ViewsRequest,
    facts_of,
)
from dominus.contract.files.shapes import (
    Amount,
    Categories,
    CategoryAmount,
    FetchedFile,
    File,
    FileBytes,
    FileDeleted,
    FileLink,
    FilePage,
    FilesReset,
    Folder,
    FolderCreated,
    FolderDeleted,
    FolderPage,
    PartStored,
    ResetCount,
    StorageStats,
    UploadAborted,
    UploadParts,
    UploadStarted,
    View,
    Views,
)
from dominus.contract.operation import Service
from dominus.contract.request import Empty

__all__ = [
    "ABORT_UPLOAD",
    "BROWSE",
    "CATEGORIES",
    "CREATE_FOLDER",
    "DELETE",
    "DELETE_FOLDER",
    "DOWNLOAD",
    "FACTORY_RESET",
    "FETCH",
    "FINISH_UPLOAD",
    "GET",
    "LIST",
    "LIST_PARTS",
    "MAX_PAGE",
    "MAX_PARTS",
    "MAX_SIZE",
    "MOVE",
    "PART_BYTES",
    "PUT_PART",
    "READ",
    "START_UPLOAD",
    "STATS",
    "UPDATE",
    "UPLOAD",
    "VIEWS",
    "VIEW_CATEGORIES",
    "Amount",
    "AsActor",
    "BrowseRequest",
    "Categories",
    "CategoryAmount",
    "DownloadRequest",
    "FetchedFile",
    "File",
    "FileBytes",
    "FileDeleted",
    "FileFacts",
    "FileLink",
    "FilePage",
    "FileRef",
    "FilesReset",
    "FinishUpload",
    "Folder",
    "FolderCreated",
    "FolderDelete",
    "FolderDeleted",
    "FolderPage",
    "FolderRequest",
    "ListRequest",
    "MoveRequest",
    "PartStored",
    "PutPart",
    "ReadRequest",
    "ResetCount",
    "ResetRequest",
    "StartUpload",
    "StorageStats",
    "UpdateRequest",
    "UploadAborted",
    "UploadParts",
    "UploadRef",
    "UploadRequest",
    "UploadStarted",
    "View",
    "ViewRequest",
    "Views",
    "ViewsRequest",
    "facts_of",
    "files",
]

_STORE = ("files_not_configured",)
_FILE = ("file_not_found", *_STORE)
_WHOSE = ("actor_required",)
_PARTS = ("too_many_parts",)
_UPLOAD = ("upload_not_found", *_STORE)
_PLACED = ("file_retained",)
_TEXT = ("invalid_text",)

files = Service("files", "/api/archivist")
UPLOAD = files.write(
    "upload",
    UploadRequest,
    File,
    "Store a file in one call.",
    errors=(*_PLACED, "checksum_mismatch", *_STORE),
)
DOWNLOAD = files.read(
    "download",
    DownloadRequest,
    FileLink,
    "Make a link that gives a file's bytes without a token.",
    errors=(*_FILE, *_WHOSE),
)
FETCH = files.read(
    "fetch",
    AsActor,
    FetchedFile,
    "Read a whole small file.",
    errors=(*_FILE, *_WHOSE, *_PARTS, "file_too_large"),
)
LIST = files.read(
    "list", ListRequest, FilePage, "List files.", list_key="objects", errors=("invalid_cursor", *_TEXT)
)
DELETE = files.write("delete", AsActor, FileDeleted, "Delete a file.", errors=_PLACED)
MOVE = files.write(
    "move", MoveRequest, File, "Move a file.", errors=("file_not_found", "file_exists", *_PLACED)
)
UPDATE = files.write(
    "update_meta",
    UpdateRequest,
    File,
    "Change tags and description.",
    path="update",
    errors=("file_not_found",),
)
BROWSE = files.read(
    "browse", BrowseRequest, FolderPage, "Look into a folder.", errors=("invalid_cursor", "view_not_found")
)
STATS = files.read(
    "get_storage_stats", Empty, StorageStats, "Count files and bytes.", path="stats", method="GET"
)
CATEGORIES = files.read(
    "list_categories",
    Empty,
    Categories,
    "List categories.",
    path="categories",
    method="GET",
    list_key="categories",
)
VIEWS = files.read("list_views", ViewsRequest, Views, "List views.", path="views")
VIEW_CATEGORIES = files.read(
    "list_categories_in_view",
    ViewRequest,
    Categories,
    "List the categories that have files in a view.",
    path="views/{view}/categories",
    method="GET",
    list_key="categories",
    errors=("view_not_found",),
)
CREATE_FOLDER = files.write(
    "create_folder", FolderRequest, FolderCreated, "Make an empty folder.", path="folder/create"
)
DELETE_FOLDER = files.write(
    "delete_folder",
    FolderDelete,
    FolderDeleted,
    "Delete a folder.",
    path="folder/delete",
    errors=("folder_not_empty", *_PLACED),
)
FACTORY_RESET = files.write(
    "factory_reset",
    ResetRequest,
    FilesReset,
    "Delete all files.",
    path="factory-reset",
    scope="files:admin",
    errors=("confirm_required",),
)
GET = files.read("get", FileRef, File, "Read what is known of a file.", errors=("file_not_found",))
READ = files.read(
    "read",
    ReadRequest,
    FileBytes,
    "Read a range of a file's bytes.",
    is_raw=True,
    errors=(*_FILE, *_WHOSE, *_PARTS, "file_changed"),
)
START_UPLOAD = files.write(
    "start_upload",
    StartUpload,
    UploadStarted,
    "Begin an upload in parts.",
    path="uploads/start",
    errors=("too_many_uploads", *_PLACED, *_STORE),
)
PUT_PART = files.write(
    "put_part",
    PutPart,
    PartStored,
    "Send a part of an upload.",
    path="uploads/{upload_id}/parts/{number}/{sha256}",
    raw_field="content",
    errors=(*_UPLOAD, *_PARTS, "checksum_mismatch", "part_too_large"),
)
LIST_PARTS = files.read(
    "list_parts",
    UploadRef,
    UploadParts,
    "List the parts that have arrived.",
    path="uploads/parts",
    errors=("upload_not_found",),
)
FINISH_UPLOAD = files.write(
    "finish_upload",
    FinishUpload,
    File,
    "Make a file of an upload's parts.",
    path="uploads/finish",
    errors=(*_UPLOAD, *_PLACED, "checksum_mismatch", "part_missing"),
)
ABORT_UPLOAD = files.write(
    "abort_upload", UploadRef, UploadAborted, "Forget an upload in progress.", path="uploads/abort"
)
