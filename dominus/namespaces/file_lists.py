"""Files in lists, folders, categories and views; and what changes their names and facts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

from dominus.contract import files as contract
from dominus.contract.request import Empty
from dominus.hints import iterator
from dominus.namespaces.base import Namespace

__all__ = ["FileLists"]


class FileLists(Namespace):
    """What is done with files as a whole."""

    async def list(
        self,
        category: str | None = None,
        prefix: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.FilePage:
        """Return a page of files in the order of category and path; `iterate` walks all pages.

        Args:
            category: of one category; of all without it.
            prefix: what their paths begin with.
            limit: 1 to 1,000.
            cursor: from the page before; None begins.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            page = await dominus.files.list(category="reports", prefix="2026/")
            print([file["path"] for file in page["objects"]], page["cursor"])
            ```
        """
        request = contract.ListRequest(limit=limit, category=category, prefix=prefix, cursor=cursor)
        return await self._call(contract.LIST, request, timeout=timeout)

    @iterator
    async def iterate(
        self, category: str | None = None, prefix: str | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[contract.File]:
        """Iterate over files in the order of category and path.

        Args:
            category: of one category; of all without it.
            prefix: what their paths begin with.
            timeout: seconds for each page; the client's without it.

        Example:
            ```python
            async for file in dominus.files.iterate(prefix="2026/"):
                print(file["path"], file["size"])
            ```
        """
        cursor: str | None = None
        while True:
            page = await self.list(category, prefix, contract.MAX_PAGE, cursor, timeout=timeout)
            for file in page["objects"]:
                yield file
            cursor = page.get("cursor")
            if not cursor:
                return

    async def delete(
        self,
        file_id: str | None = None,
        category: str | None = None,
        path: str | None = None,
        actor: str | None = None,
        *,
        timeout: float | None = None,
    ) -> bool:
        """Delete a file; false when there was none.

        Args:
            file_id: its id; without it, `path` and `category` name the file.
            category: its category, `general` without it.
            path: where it lies.
            actor: the id of the user for whom it is done.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: it is a compliance file, and its retention has not ended (code `file_retained`).

        Example:
            ```python
            file = await dominus.files.upload(b"hello", "hello.txt")
            assert await dominus.files.delete(file_id=file["id"])
            ```
        """
        request = contract.AsActor(id=file_id, category=category, logical_path=path, actor_user_id=actor)
        return (await self._call(contract.DELETE, request, timeout=timeout))["deleted"]

    async def move(
        self,
        file_id: str,
        new_category: str | None = None,
        new_path: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.File:
        """Give a file another category, another path, or both; nothing is overwritten.

        Args:
            file_id: its id.
            new_category: 1 to 64 characters.
            new_path: 1 to 1,024 characters.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such file.
            ConflictError: another file is there (code `file_exists`), or a retained file would change its category.

        Example:
            ```python
            file = await dominus.files.upload(b"hello", "draft.txt")
            await dominus.files.move(file["id"], new_path=f"archive/{file['id']}.txt")
            ```
        """
        request = contract.MoveRequest(id=file_id, new_category=new_category, new_logical_path=new_path)
        return await self._call(contract.MOVE, request, timeout=timeout)

    async def update_meta(
        self,
        file_id: str,
        tags: Mapping[str, str] | None = None,
        description: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.File:
        """Replace a file's tags, its description, or both.

        Args:
            file_id: its id.
            tags: up to 50; None leaves them, {} removes them.
            description: up to 2,000 characters; None leaves it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such file.

        Example:
            ```python
            file = await dominus.files.upload(b"hello", "hello.txt")
            await dominus.files.update_meta(file["id"], tags={"lang": "en"}, description="A letter.")
            ```
        """
        request = contract.UpdateRequest(id=file_id, tags=cast("Any", tags), description=description)
        return await self._call(contract.UPDATE, request, timeout=timeout)

    async def browse(
        self,
        path: str = "/",
        category: str | None = None,
        view: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.FolderPage:
        """Return a page of what lies directly in a folder: its folders, then its files.

        Args:
            path: the folder.
            category: of one category; of all without it.
            view: only files of a view.
            limit: 1 to 1,000.
            cursor: from the page before; None begins.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such view (code `view_not_found`).

        Example:
            ```python
            found = await dominus.files.browse("/reports", view="documents")
            print(found["folders"], found["files"])
            ```
        """
        request = contract.BrowseRequest(path=path, limit=limit, category=category, view=view, cursor=cursor)
        return await self._call(contract.BROWSE, request, timeout=timeout)

    async def get_storage_stats(self, *, timeout: float | None = None) -> contract.StorageStats:
        """Return how many files there are and how many bytes, in all and by category.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            stats = await dominus.files.get_storage_stats()
            print(stats["total_objects"], stats["total_size_bytes"])
            ```
        """
        return await self._call(contract.STATS, Empty(), timeout=timeout)

    async def list_categories(self, *, timeout: float | None = None) -> contract.Categories:
        """Return the categories that have files, with their number and bytes.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            print([category["name"] for category in (await dominus.files.list_categories())["categories"]])
            ```
        """
        return await self._call(contract.CATEGORIES, Empty(), timeout=timeout)

    async def list_views(
        self, include_reserved: bool = False, *, timeout: float | None = None
    ) -> contract.Views:
        """Return the views: ways to look at files of all categories.

        Args:
            include_reserved: those for admins, too, if the caller is one (scope `files:admin`).
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            print([view["name"] for view in (await dominus.files.list_views())["views"]])
            ```
        """
        request = contract.ViewsRequest(include_reserved=include_reserved)
        return await self._call(contract.VIEWS, request, timeout=timeout)

    async def list_categories_in_view(
        self, view: str, *, timeout: float | None = None
    ) -> contract.Categories:
        """Return the categories that have files in a view.

        Args:
            view: its name.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such view (code `view_not_found`).
            AuthorizationError: it is reserved.

        Example:
            ```python
            await dominus.files.list_categories_in_view("images")
            ```
        """
        return await self._call(contract.VIEW_CATEGORIES, contract.ViewRequest(view=view), timeout=timeout)

    async def create_folder(
        self, path: str, category: str | None = None, *, timeout: float | None = None
    ) -> contract.FolderCreated:
        """Make an empty folder that `browse` shows; files make their folders by their paths.

        Args:
            path: the folder.
            category: `general` without it.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            await dominus.files.create_folder("/reports/2026")
            ```
        """
        request = contract.FolderRequest(path=path, category=category)
        return await self._call(contract.CREATE_FOLDER, request, timeout=timeout)

    async def delete_folder(
        self, path: str, category: str | None = None, force: bool = False, *, timeout: float | None = None
    ) -> contract.FolderDeleted:
        """Delete a folder, with `force` all files in it too; one retained file keeps them all.

        Args:
            path: the folder.
            category: `general` without it.
            force: delete what is in it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: it has files (code `folder_not_empty`), or a retained one (`file_retained`).

        Example:
            ```python
            await dominus.files.create_folder("/reports/2025")
            await dominus.files.delete_folder("/reports/2025")
            ```
        """
        request = contract.FolderDelete(path=path, category=category, force=force)
        return await self._call(contract.DELETE_FOLDER, request, timeout=timeout)

    async def factory_reset(
        self, confirm: bool = False, preserve_compliance: bool = True, *, timeout: float | None = None
    ) -> contract.FilesReset:
        """Delete all files of the project and environment, but those whose retention goes on.

        Args:
            confirm: must be true.
            preserve_compliance: keep compliance files whose retention has ended, too.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: `confirm` is not true (code `confirm_required`).

        Example:
            ```python
            async with Dominus(environment="scratch") as client:
                await client.files.factory_reset(confirm=True)
            ```
        """
        request = contract.ResetRequest(confirm=confirm, preserve_compliance=preserve_compliance)
        return await self._call(contract.FACTORY_RESET, request, timeout=timeout)
