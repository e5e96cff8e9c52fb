"""Objects: bytes under names of ours, each written whole or not at all. A local folder or S3, by obstore."""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import logging
import os
import re
import shutil
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from dominus.errors import DominusError, ServiceError, ValidationError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["S3", "LocalFolder", "Objects", "objects_at"]

T = TypeVar("T")
logger = logging.getLogger("dominus.orchestrator.engines.objects")

_S3_OPTIONS = frozenset({"endpoint", "region", "virtual_hosted_style_request"})
_RETRIES: Any = {"max_retries": 3, "retry_timeout": dt.timedelta(seconds=20)}
_CLIENT: Any = {"connect_timeout": "5s", "timeout": "60s"}
_LIST_BATCH = 1000
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_OS_ERROR = re.compile(r"\(os error (\d{1,4})\)", re.ASCII)
"""How obstore tells what the system said."""


class Objects(Protocol):
    """A store. Names have slashes; none of them is a user's."""

    async def put(self, name: str, data: bytes | bytearray) -> None:
        """Write an object whole, or raise ServiceError (503) and leave nothing under its name."""
        ...

    async def get(self, name: str, start: int, end: int) -> bytes:
        """Return the bytes of an object from `start` up to `end`, which are in it.

        Raises:
            ServiceError: the store does not answer (503), or has no such object (500, `file_damaged`).
        """
        ...

    async def delete_under(self, prefix: str) -> None:
        """Delete all objects below a name; none being there is fine."""
        ...


def objects_at(url: str, *, is_durable: bool = True) -> Objects:
    """Return the store that a URL names; nothing is opened yet.

    Args:
        url: `file:///folder`, or `s3://bucket/prefix?region=...&endpoint=...`; who may enter, the environment says
            (AWS_ACCESS_KEY_ID ...).
        is_durable: whether a local write waits for the disk.

    Raises:
        ValidationError: it is neither.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and len(parts.path) > 1:
        return LocalFolder(Path(unquote(parts.path)), is_durable=is_durable)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc and options.keys() <= _S3_OPTIONS:
        return S3(f"s3://{parts.netloc}{parts.path}", options)
    raise ValidationError(
        "DOMINUS_FILES_URL is no store",
        code="settings",
        hint="file:///folder, or s3://bucket/prefix?region=...&endpoint=..., without credentials in it",
    )


class LocalFolder:
    """Objects as files of mode 0600, in folders that only this user may enter."""

    def __init__(self, folder: Path, *, is_durable: bool = True) -> None:
        self._folder = folder
        self._is_durable = is_durable
        self._store: ObjectStore | None = None

    async def put(self, name: str, data: bytes | bytearray) -> None:
        """Write beside its place, and move it there."""
        await _guarded(asyncio.to_thread(self._put, name, data))

    async def get(self, name: str, start: int, end: int) -> bytes:
        """Read a range."""
        return await _guarded(asyncio.to_thread(self._get, name, start, end))

    async def delete_under(self, prefix: str) -> None:
        """Delete a folder, with what interrupted writes left there."""
        await _guarded(asyncio.to_thread(self._delete, prefix))

    def _opened(self) -> ObjectStore:
        if self._store is None:
            from obstore.store import LocalStore

            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            self._store = LocalStore(self._folder)
        return self._store

    def _put(self, name: str, data: bytes | bytearray) -> None:
        import obstore

        store, path = self._opened(), self._folder / name
        for parent in reversed(path.relative_to(self._folder).parents[:-1]):
            (self._folder / parent).mkdir(mode=0o700, exist_ok=True)
        obstore.put(store, name, data, use_multipart=False)
        # Nobody else could open it meanwhile: the folders are closed to others.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o600)
            if self._is_durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if self._is_durable:
            for parent in list(path.relative_to(self._folder).parents):
                _sync_folder(self._folder / parent)

    def _get(self, name: str, start: int, end: int) -> bytes:
        import obstore

        return bytes(obstore.get_range(self._opened(), name, start=start, end=end))

    def _delete(self, prefix: str) -> None:
        self._opened()
        if (self._folder / prefix).exists():
            shutil.rmtree(self._folder / prefix)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class S3:
    """Objects in a bucket, below a prefix."""

    def __init__(self, url: str, options: dict[str, str]) -> None:
        self._url = url
        self._options = options
        self._store: ObjectStore | None = None

    async def put(self, name: str, data: bytes | bytearray) -> None:
        """Write in one request."""
        import obstore

        await _guarded(obstore.put_async(await self._opened(), name, data, use_multipart=False))

    async def get(self, name: str, start: int, end: int) -> bytes:
        """Read a range."""
        import obstore

        return bytes(
            await _guarded(obstore.get_range_async(await self._opened(), name, start=start, end=end))
        )

    async def delete_under(self, prefix: str) -> None:
        """Delete page after page."""
        await _guarded(self._delete(await self._opened(), prefix))

    async def _delete(self, store: ObjectStore, prefix: str) -> None:
        import obstore

        listed: Any = getattr(store, "list")  # noqa: B009 - one of its overloads is of a type without types
        async for page in listed(prefix, chunk_size=_LIST_BATCH):
            await obstore.delete_async(store, [item["path"] for item in page])

    async def _opened(self) -> ObjectStore:
        if self._store is None:
            self._store = await asyncio.to_thread(self._open)
        return self._store

    def _open(self) -> ObjectStore:
        from obstore.store import S3Store

        client: Any = dict(_CLIENT)
        endpoint = self._options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL", "")
        if endpoint.startswith("http://"):
            client["allow_http"] = True
        options: Any = self._options
        return S3Store.from_url(self._url, client_options=client, retry_config=_RETRIES, **options)


async def _guarded(operation: Awaitable[T]) -> T:
    from obstore.exceptions import BaseError

    try:
        return await operation
    except DominusError:
        raise
    except FileNotFoundError as error:
        logger.error(  # noqa: TRY400 - its traceback is in the library
            "an object is gone: %s",
            _first_line(error),
        )
        raise ServiceError(
            "a part of the file's content is gone from the store",
            code="file_damaged",
            retryable=False,
            hint="restore the store from the backup that belongs to the database's",
        ) from error
    except (BaseError, OSError, ValueError) as error:
        logger.error(  # noqa: TRY400 - its traceback is in the library
            "the object store failed: %s",
            _first_line(error),
        )
        if _is_full(error):
            # Not 503: proxies and older clients take that for a server that starts, and ask again and again.
            raise ServiceError(
                "the disk of the files is full",
                code="disk_full",
                status_code=507,
                details={"engine": "files"},
                hint="make space: reads go on, and writes do as soon as there is some",
            ) from error
        raise ServiceError(
            "the object store does not answer, or refuses", code="files_unavailable", status_code=503
        ) from error


def _is_full(error: Exception) -> bool:
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (said := _OS_ERROR.search(str(error))):
        number = int(said[1])
    return number in _FULL


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:500]
