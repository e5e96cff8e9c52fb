"""dominus.logs: lines that are shipped in the background, searched and followed."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dominus.caller import Caller
from dominus.contract import logs as contract
from dominus.errors import DominusError
from dominus.hints import iterator
from dominus.namespaces.base import Namespace, as_list, check_seconds
from dominus.shipping.accepted import Logged
from dominus.shipping.lines import call_site, make_line
from dominus.shipping.options import options_of
from dominus.shipping.shipper import SEND_SECONDS, LogStats, Shipper

if TYPE_CHECKING:
    from dominus.shipping.handlers import LogHandler, StructlogProcessor

__all__ = ["Logs"]

POLL_SECONDS = 5.0
"""How long the server may keep a tail waiting: less than any proxy's limit."""
RETRY_SECONDS = 1.0
Time = str | dt.datetime


class Logs(Namespace):
    """Log lines: `debug`, `info`, `notice`, `warn`, `error` and `critical` return at once; a task ships the lines.

    A line carries the file (last three parts of the path), function and line of the call, and a copy of the context
    without what looks secret. It is made and kept at the call; awaiting it gives whether it was taken: true, but when
    buffer and spool are full. It never raises. Lines of a user's view (`as_user`) are sent as the service.
    """

    @cached_property
    def _shipper(self) -> Shipper:
        core = self._caller.core
        if core.shipper is None:
            service = Caller(core)

            async def send(events: list[Any]) -> contract.BatchKept:
                request = contract.BatchRequest(events=events)
                return await service.send(contract.BATCH, request, timeout=SEND_SECONDS)

            def also_close(close: Any) -> None:
                if close not in core.also_close:
                    core.also_close.append(close)

            core.shipper = Shipper(send, lambda: options_of(core.shared.settings), also_close)
        return core.shipper

    def debug(
        self,
        message: str,
        context: Mapping[str, Any] | None = None,
        category: str | None = None,
        exception: BaseException | None = None,
    ) -> Logged:
        """Log what only helps to find a mistake.

        Args:
            message: up to 32,768 characters; more are cut.
            context: up to 64 KiB of JSON; what has no JSON form is written as text.
            category: a group of lines, up to 128 characters; `general` without it.
            exception: its type, message and traceback are kept as `context["exception"]`.

        Example:
            ```python
            await dominus.logs.debug("cache miss", {"key": "user:42"})
            ```
        """
        site = call_site(sys._getframe(1))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return self._shipper.take(make_line("debug", message, context, category, site, exception))

    def info(
        self,
        message: str,
        context: Mapping[str, Any] | None = None,
        category: str | None = None,
        exception: BaseException | None = None,
    ) -> Logged:
        """Log what happened.

        Args:
            message: up to 32,768 characters; more are cut.
            context: up to 64 KiB of JSON; what has no JSON form is written as text.
            category: a group of lines, up to 128 characters; `general` without it.
            exception: its type, message and traceback are kept as `context["exception"]`.

        Example:
            ```python
            await dominus.logs.info("order placed", {"order": 42}, category="orders")
            ```
        """
        site = call_site(sys._getframe(1))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return self._shipper.take(make_line("info", message, context, category, site, exception))

    def notice(
        self,
        message: str,
        context: Mapping[str, Any] | None = None,
        category: str | None = None,
        exception: BaseException | None = None,
    ) -> Logged:
        """Log what is worth knowing, and usual.

        Args:
            message: up to 32,768 characters; more are cut.
            context: up to 64 KiB of JSON; what has no JSON form is written as text.
            category: a group of lines, up to 128 characters; `general` without it.
            exception: its type, message and traceback are kept as `context["exception"]`.

        Example:
            ```python
            await dominus.logs.notice("configuration was read again")
            ```
        """
        site = call_site(sys._getframe(1))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return self._shipper.take(make_line("notice", message, context, category, site, exception))

    def warn(
        self,
        message: str,
        context: Mapping[str, Any] | None = None,
        category: str | None = None,
        exception: BaseException | None = None,
    ) -> Logged:
        """Log what may become a failure.

        Args:
            message: up to 32,768 characters; more are cut.
            context: up to 64 KiB of JSON; what has no JSON form is written as text.
            category: a group of lines, up to 128 characters; `general` without it.
            exception: its type, message and traceback are kept as `context["exception"]`.

        Example:
            ```python
            await dominus.logs.warn("stock is low", {"article": 7})
            ```
        """
        site = call_site(sys._getframe(1))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return self._shipper.take(make_line("warn", message, context, category, site, exception))

    def error(
        self,
        message: str,
        context: Mapping[str, Any] | None = None,
        category: str | None = None,
        exception: BaseException | None = None,
    ) -> Logged:
        """Log what failed.

        Args:
            message: up to 32,768 characters; more are cut.
            context: up to 64 KiB of JSON; what has no JSON form is written as text.
            category: a group of lines, up to 128 characters; `general` without it.
            exception: its type, message and traceback are kept as `context["exception"]`.

        Example:
            ```python
            await dominus.logs.error("payment refused", {"order": 42}, exception=ValueError("no such card"))
            ```
        """
        site = call_site(sys._getframe(1))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return self._shipper.take(make_line("error", message, context, category, site, exception))

    def critical(
        self,
        message: str,
        context: Mapping[str, Any] | None = None,
        category: str | None = None,
        exception: BaseException | None = None,
    ) -> Logged:
        """Log what stops the program or its users.

        Args:
            message: up to 32,768 characters; more are cut.
            context: up to 64 KiB of JSON; what has no JSON form is written as text.
            category: a group of lines, up to 128 characters; `general` without it.
            exception: its type, message and traceback are kept as `context["exception"]`.

        Example:
            ```python
            await dominus.logs.critical("the disk is full")
            ```
        """
        site = call_site(sys._getframe(1))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return self._shipper.take(make_line("critical", message, context, category, site, exception))

    async def batch(
        self, events: Sequence[Mapping[str, Any]], *, timeout: float | None = None
    ) -> contract.BatchKept:
        """Store lines now, and return how many; they are sent as they are, without the buffer and its redaction.

        Args:
            events: each with `message`, and `level` (info), `context` or `data`, `category`, `file`, `function`,
                `line`, `id` (a uuid7: stored once, however often it is sent); any number, sent 1,000 at a time.
            timeout: seconds for each 1,000; the client's without it.

        Raises:
            ValidationError: `events` is no list.

        Example:
            ```python
            kept = await dominus.logs.batch([{"level": "info", "message": "imported", "context": {"rows": 7}}])
            ```
        """
        given = as_list(events, "events")
        total: contract.BatchKept = {"total": 0, "stored": 0, "failed": 0}
        errors: list[contract.Refused] = []
        for at in range(0, max(1, len(given)), contract.MAX_EVENTS):
            request = contract.BatchRequest(events=given[at : at + contract.MAX_EVENTS])
            kept = await self._call(contract.BATCH, request, timeout=timeout)
            errors.extend(
                contract.Refused(index=error["index"] + at, message=error["message"])
                for error in kept.get("errors", [])
            )
            total["total"] += kept["total"]
            total["stored"] += kept["stored"]
            total["failed"] += kept["failed"]
        if errors:
            total["errors"] = errors
        return total

    async def query(
        self,
        level: str | None = None,
        category: str | None = None,
        start_time: Time | None = None,
        end_time: Time | None = None,
        file: str | None = None,
        function: str | None = None,
        search: str | None = None,
        limit: int = 100,
        project: str | None = None,
        environment: str | None = None,
        *,
        min_level: str | None = None,
        timeout: float | None = None,
    ) -> list[contract.LogEntry]:
        """Return the newest lines that fit, the newest first. What this client still holds is shipped before.

        Args:
            level: exactly this one.
            category: exactly this one.
            start_time: from this moment on; ISO 8601 or a datetime, UTC where it has no zone.
            end_time: before this moment.
            file: a part of its path, in any case.
            function: a part of its name, in any case.
            search: words in message and context, as in a search engine: `refused -test "card number" or paypal`.
            limit: 1 to 1,000.
            project: the client's own; another is an AuthorizationError.
            environment: likewise.
            min_level: this level or a more severe one.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: a value is wrong, or the lines are more than 16 MiB together (code `answer_too_large`).

        Example:
            ```python
            for entry in await dominus.logs.query(min_level="warn", search="payment", limit=20):
                print(entry["time"], entry["level"], entry["message"])
            ```
        """
        wanted: dict[str, Any] = {"start_time": start_time, "end_time": end_time, "level": level}
        wanted["min_level"] = min_level
        request = contract.QueryRequest(
            limit=limit,
            category=category,
            file=file,
            function=function,
            search=search,
            project=project,
            environment=environment,
            **wanted,
        )
        await self.flush(timeout=2.0)
        return (await self._call(contract.QUERY, request, timeout=timeout))["logs"]

    @iterator
    async def tail(
        self,
        level: str | None = None,
        category: str | None = None,
        file: str | None = None,
        function: str | None = None,
        search: str | None = None,
        *,
        min_level: str | None = None,
        backlog: int = 0,
    ) -> AsyncIterator[contract.LogEntry]:
        """Iterate over lines as they arrive, each once, until the loop is left; a server that is away is waited for.

        Args:
            level: exactly this one.
            category: exactly this one.
            file: a part of its path.
            function: a part of its name.
            search: words in message and context.
            min_level: this level or a more severe one.
            backlog: begin with so many of the newest lines that are there, 0 to 1,000.

        Raises:
            ValidationError: a value is wrong.
            AuthorizationError: the scope `logs:read` is missing.

        Example:
            ```python
            async def watch() -> None:
                async for entry in dominus.logs.tail(min_level="error", backlog=10):
                    print(entry["message"])
            ```
        """
        wanted: dict[str, Any] = {
            "level": level,
            "min_level": min_level,
            "category": category,
            "file": file,
            "function": function,
            "search": search,
        }
        cursor = (await self._call(contract.TAIL, contract.TailRequest(**wanted)))["cursor"]
        shown: set[str] = set()
        if backlog:
            request = contract.QueryRequest(limit=backlog, **wanted)
            for entry in reversed((await self._call(contract.QUERY, request))["logs"]):
                # It may have arrived after the cursor was made.
                shown.add(entry["id"])
                yield entry
        while True:
            request = contract.TailRequest(cursor=cursor, wait_seconds=POLL_SECONDS, **wanted)
            try:
                found = await self._call(contract.TAIL, request)
            except DominusError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(error.retry_after or RETRY_SECONDS)
                continue
            cursor = found["cursor"]
            for entry in found["logs"]:
                if entry["id"] not in shown:
                    yield entry
            shown.clear()

    async def arrivals(
        self,
        cursor: str | None = None,
        limit: int = 500,
        wait_seconds: float = 0.0,
        level: str | None = None,
        category: str | None = None,
        file: str | None = None,
        function: str | None = None,
        search: str | None = None,
        *,
        min_level: str | None = None,
        timeout: float | None = None,
    ) -> contract.Arrivals:
        """Return the lines that arrived since a cursor, and the next cursor: a step of `tail`.

        Args:
            cursor: where to go on; without it no line is returned, and the cursor of now.
            limit: 1 to 1,000.
            wait_seconds: how long to wait for a line, 0 to 10.
            level: exactly this one.
            category: exactly this one.
            file: a part of its path.
            function: a part of its name.
            search: words in message and context.
            min_level: this level or a more severe one.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: the cursor is none of a tail, or another value is wrong.

        Example:
            ```python
            step = await dominus.logs.arrivals()
            step = await dominus.logs.arrivals(step["cursor"], wait_seconds=0.5)
            ```
        """
        wanted: dict[str, Any] = {"level": level, "min_level": min_level, "category": category}
        request = contract.TailRequest(
            cursor=cursor,
            limit=limit,
            wait_seconds=wait_seconds,
            file=file,
            function=function,
            search=search,
            **wanted,
        )
        return await self._call(contract.TAIL, request, timeout=timeout)

    async def flush(self, *, timeout: float = 2.0) -> bool:
        """Ship what waits now; return whether all lines are stored. Those that are not stay, and are sent later.

        Args:
            timeout: the most seconds that it takes.

        Example:
            ```python
            await dominus.logs.flush()
            ```
        """
        check_seconds(timeout, "timeout")
        return await self._shipper.flush(timeout)

    def stats(self) -> LogStats:
        """Return how many lines of this process wait in memory and on disk, were sent, dropped and refused.

        Example:
            ```python
            print(dominus.logs.stats()["dropped"])
            ```
        """
        return self._shipper.stats()

    def handler(self, level: int | str = 0) -> LogHandler:
        """Return a handler for the standard `logging`; it works from any thread, with or without an event loop.

        The category is the logger's name, the context what `extra=` gave. Lines of this package itself are left out.

        Args:
            level: of the handler, as `logging` has it.

        Example:
            ```python
            handler = dominus.logs.handler("WARNING")  # logging.getLogger("shop").addHandler(handler)
            ```
        """
        from dominus.shipping.handlers import LogHandler

        return LogHandler(self._shipper, level)

    def processor(self) -> StructlogProcessor:
        """Return a processor for structlog, to stand before the one that renders: it ships events, and passes them on.

        Example:
            ```python
            ship = dominus.logs.processor()  # structlog.configure(processors=[..., ship, renderer])
            ```
        """
        from dominus.shipping.handlers import StructlogProcessor

        return StructlogProcessor(self._shipper)
