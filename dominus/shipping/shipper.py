"""The buffer of a client's log lines, and the one task that ships them.

`take` only appends. The task belongs to the event loop that logged first; where none runs, to a thread of its own.
Cancelled at the end of its loop, it ships what is left within two seconds, or spools it. Everything is sent with ids,
so that what may have been stored already is sent again without being stored twice.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict, cast

from pydantic_core import from_json

from dominus.errors import AuthenticationError, AuthorizationError, DominusError, ValidationError
from dominus.shipping.accepted import ACCEPTED, DROPPED, Logged, Pause
from dominus.shipping.lines import IDS, make_line
from dominus.shipping.redaction import Redactor
from dominus.shipping.spool import Spool
from dominus.transport.deadline import deadline

__all__ = ["IS_SHIPPING", "LogStats", "Shipper", "ShippingOptions"]

_log = logging.getLogger("dominus.logs")
IS_SHIPPING: contextvars.ContextVar[bool] = contextvars.ContextVar("dominus_is_shipping", default=False)
"""Set in what the task does: a line that is logged there must not become another batch."""
BATCH_LINES = 500
BATCH_BYTES = 1024 * 1024
CLEAN_AT_ONCE = 50
"""Lines that are redacted before the loop has its turn."""
INTERVAL_SECONDS = 1.0
SEND_SECONDS = 10.0
FLUSH_SECONDS = 2.0
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.25, 10.0
REFUSED_DELAY_SECONDS = 30.0
WATCH_SECONDS = 0.2
ADOPT_SECONDS = 30.0
SPILL_LINES = 200
"""Moved to the spool at once when the buffer is full: about two milliseconds."""
DEFAULT_LIMIT = 10_000
_REFUSED = frozenset({400, 413, 422})


class LogStats(TypedDict):
    """Lines by what became of them; `spooled` are on disk and sent later, `dropped` had no room, `refused` no sense."""

    buffered: int
    spooled: int
    sent: int
    dropped: int
    refused: int


class ShippingOptions(TypedDict):
    """What the settings say."""

    limit: int
    spool: Spool | None
    redactor: Redactor


class Shipper:
    """Takes lines from any thread, and ships them."""

    # Over 350 lines with its docstrings: a queue, and the one task that serves it.

    def __init__(
        self,
        send: Callable[[list[Any]], Awaitable[Any]],
        options: Callable[[], ShippingOptions],
        also_close: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        """Prepare; the first line begins.

        Args:
            send: stores a batch, once each line.
            options: reads the settings; it may raise while they are wrong.
            also_close: asks for a call when the client is closed.
        """
        self._send = send
        self._options = options
        self._also_close = also_close
        self._limit = DEFAULT_LIMIT
        self._redactor: Redactor | None = None
        self._spool: Spool | None = None
        self._counts = {"sent": 0, "dropped": 0, "refused": 0, "told": 0}
        self._begin_anew()
        _all.add(self)

    def _begin_anew(self) -> None:
        self._buffer: deque[bytes] = deque()
        self._lock = threading.RLock()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._is_ending = False
        self._is_awake = self._is_hurried = self._is_flushing = self._is_busy = False
        self._delay = 0.0
        self._failure_count = 0
        self._has_told = False
        self._adopt_at = 0.0

    def after_fork(self) -> list[object]:
        """Begin anew in the child of a fork: lines, task and spool are the parent's, who ships them."""
        kept: list[object] = [self._task, self._loop, self._wake, self._thread, self._buffer]
        if self._spool is not None:
            self._spool.leave_to_parent()
        self._spool = self._redactor = None
        self._counts = dict.fromkeys(self._counts, 0)
        self._begin_anew()
        return kept

    # --- taking lines

    def take(self, line: bytes) -> Logged:
        """Take a line; never wait. What it returns lets the loop have its turn when the buffer is half full."""
        buffer = self._buffer
        count = len(buffer)
        if count >= self._limit and not self._made_room():
            self._counts["dropped"] += 1
            return DROPPED
        buffer.append(line)
        loop = self._loop
        if (
            not self._is_awake
            or (count >= BATCH_LINES and not self._is_hurried)
            or loop is None
            or not loop.is_running()
        ):
            self._nudge()
        return ACCEPTED if count * 2 < self._limit else Pause()

    def _made_room(self) -> bool:
        """Move the oldest lines to the spool; False when there is no room there either."""
        with self._lock:
            if not self._is_set_up() or self._spool is None:
                return False
            if len(self._buffer) < self._limit:
                return True
            return self._spill(SPILL_LINES) > 0

    def _spill(self, count: int) -> int:
        """Move lines from the buffer to the spool; return how many."""
        with self._lock:
            if self._spool is None or self._redactor is None:
                return 0
            lines = self._pop(count)
            written = self._to_spool([self._redactor.clean(line) for line in lines])
            self._buffer.extendleft(reversed(lines[written:]))
            return written

    def _to_spool(self, lines: Sequence[bytes]) -> int:
        if self._spool is None or not lines:
            return 0
        try:
            return self._spool.append(lines)
        except (OSError, ImportError) as error:
            self._tell(f"lines cannot be spooled: {error}")
            return 0

    def _pop(self, count: int) -> list[bytes]:
        taken: list[bytes] = []
        size = 0
        with self._lock:
            while self._buffer and len(taken) < count and size < BATCH_BYTES:
                taken.append(self._buffer.popleft())
                size += len(taken[-1])
        return taken

    def _is_set_up(self) -> bool:
        """Read the settings once; False while they are wrong."""
        if self._redactor is None:
            try:
                options = self._options()
            except DominusError as error:
                self._tell(f"lines wait: {error.message}")
                return False
            self._limit, self._spool, self._redactor = (
                options["limit"],
                options["spool"],
                options["redactor"],
            )
        return True

    def _tell(self, message: str) -> None:
        if not self._has_told:
            self._has_told = True
            _log.warning("%s", message)

    # --- who ships

    def _nudge(self) -> None:
        self._is_awake = True
        if len(self._buffer) > BATCH_LINES:
            self._is_hurried = True
        loop = self._loop
        if loop is not None and loop.is_running():
            try:
                loop.call_soon_threadsafe(self._wake.set)
            except RuntimeError:
                # It was closed at this moment.
                self._loop = None
            else:
                return
        self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            if self._loop is not None and self._loop.is_running():
                return
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self._start_thread()
                return
            # A block's deadline, and whatever else the caller's context holds, are not the task's.
            context = contextvars.Context()
            self._loop, self._wake = loop, asyncio.Event()
            self._task = loop.create_task(self._run(), name="dominus-logs", context=context)
            self._also_close(self.aclose)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="dominus-logs")
        try:
            thread.start()
        except RuntimeError:
            # The program ends: what is in the buffer is spooled by `end`.
            return
        self._thread = thread
        self._also_close(self.aclose)

    def _work(self) -> None:
        loop, executor = asyncio.new_event_loop(), ThreadPoolExecutor(2, thread_name_prefix="dominus-logs")
        loop.set_default_executor(executor)
        try:
            loop.run_until_complete(self._live())
        finally:
            # As asyncio.Runner does, whose own end starts a thread: none starts while a program ends.
            if tasks := asyncio.all_tasks(loop):
                for task in tasks:
                    task.cancel()
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            executor.shutdown()
            loop.close()

    async def _live(self) -> None:
        """Ship until the program's main thread has ended; this one is no daemon, so the program waits for it."""
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        self._task = task = asyncio.create_task(self._run(), name="dominus-logs")
        while threading.main_thread().is_alive() and not self._is_ending:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(WATCH_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    # --- the task

    async def _run(self) -> None:
        IS_SHIPPING.set(True)
        own = asyncio.current_task()
        try:
            with deadline(None, fail_fast=True):
                while True:
                    await self._until_lines()
                    await self._gather()
                    await self._ship_safely()
        except asyncio.CancelledError:
            if own is not None:
                own.uncancel()
            await self._last_flush()
            raise
        finally:
            with self._lock:
                if self._task is own:
                    self._task = self._loop = None
                    self._is_awake = self._is_hurried = False

    async def _until_lines(self) -> None:
        while not self._has_lines():
            self._is_awake = False
            if not self._buffer:
                self._wake.clear()
                await self._wake.wait()
            self._is_awake = True

    def _has_lines(self) -> bool:
        return bool(self._buffer) or (self._spool is not None and self._spool.has_lines)

    async def _gather(self) -> None:
        """Let lines come together, or time pass after a failure; lines that come meanwhile are safe on disk then."""
        ends = time.monotonic() + (self._delay or INTERVAL_SECONDS)
        while not self._is_flushing and (left := ends - time.monotonic()) > 0:
            self._is_hurried = False
            self._wake.clear()
            if len(self._buffer) > BATCH_LINES:
                if not self._delay:
                    return
                if await self._off_loop(self._spill, BATCH_LINES):
                    continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()

    async def _ship_safely(self) -> None:
        self._is_busy = True
        try:
            await self._ship()
        finally:
            self._is_busy = False

    async def _ship(self) -> None:
        """Send all there is, the oldest first, until a batch fails."""
        if not self._is_set_up() or self._redactor is None:
            self._failed(None)
            return
        while True:
            spool = self._spool
            if spool is not None and spool.has_lines:
                lines = await self._off_loop(spool.read, BATCH_LINES, BATCH_BYTES)
                if lines and not await self._sent(lines):
                    return
                await self._off_loop(spool.forget)
            elif self._buffer:
                if not await self._sent_from_buffer(self._redactor):
                    return
            else:
                break
        if not self._is_flushing:
            await self._adopt()
        self._say_what_was_dropped()

    async def _sent_from_buffer(self, redactor: Redactor) -> bool:
        lines = self._pop(BATCH_LINES)
        clean: list[bytes] = []
        is_sent = False
        try:
            for at in range(0, len(lines), CLEAN_AT_ONCE):
                clean += [redactor.clean(line) for line in lines[at : at + CLEAN_AT_ONCE]]
                await asyncio.sleep(0)
            is_sent = await self._sent(clean)
        finally:
            if not is_sent:
                # It was cancelled, or nobody is there.
                written = self._to_spool(clean) if len(clean) == len(lines) else 0
                with self._lock:
                    self._buffer.extendleft(reversed(lines[written:]))
        return is_sent

    async def _sent(self, lines: Sequence[bytes]) -> bool:
        try:
            events = _events(lines)
            answer = await self._send(events)
        except Exception as error:  # noqa: BLE001 - whatever fails, the lines wait and the task goes on
            # Without a request id it is the client itself that is set up wrong.
            is_refusal = isinstance(error, DominusError) and error.request_id is not None
            if isinstance(error, DominusError) and is_refusal and error.status_code in _REFUSED:
                return await self._sent_in_halves(lines, error)
            self._failed(error)
            return False
        failed: int = answer["failed"] + len(lines) - len(events)
        self._counts["sent"] += len(lines) - failed
        self._refuse(failed, str(answer.get("errors")))
        self._delay, self._has_told = 0.0, self._has_told and failed > 0
        return True

    async def _sent_in_halves(self, lines: Sequence[bytes], error: DominusError) -> bool:
        """Find the line that the server refuses, so that it holds up no other."""
        if len(lines) == 1:
            self._refuse(1, error.message)
            return True
        half = len(lines) // 2
        return await self._sent(lines[:half]) and await self._sent(lines[half:])

    def _refuse(self, count: int, why: str) -> None:
        if count:
            self._counts["refused"] += count
            self._tell(f"the server refused {count} log lines: {why}")

    def _failed(self, error: Exception | None) -> None:
        self._failure_count += 1
        self._is_flushing = False
        if isinstance(error, (AuthenticationError, AuthorizationError, ValidationError)) or error is None:
            self._delay = REFUSED_DELAY_SECONDS
            self._tell(f"log lines wait: {error or 'the client is not set up'}")
            return
        self._delay = min(LONGEST_DELAY_SECONDS, max(FIRST_DELAY_SECONDS, self._delay * 2))
        _log.debug("log lines wait for %.3g s: %s", self._delay, error)

    def _say_what_was_dropped(self) -> None:
        missing = self._counts["dropped"] - self._counts["told"]
        if missing > 0:
            self._counts["told"] += missing
            text = f"{missing} log lines were dropped: the buffer and the spool were full"
            self._buffer.append(make_line("warn", text, {"dropped": missing}, "dominus"))

    async def _adopt(self) -> None:
        """Send what processes that have ended left in their spools, a file at a time."""
        if self._spool is None or time.monotonic() < self._adopt_at:
            return
        self._adopt_at = time.monotonic() + ADOPT_SECONDS
        while found := cast("Spool | None", await self._off_loop(self._spool.left_behind)):
            try:
                while found.has_lines:
                    lines = await self._off_loop(found.read, BATCH_LINES, BATCH_BYTES)
                    if lines and not await self._sent(lines):
                        return
                    await self._off_loop(found.forget)
                    # Own lines do not wait for somebody else's.
                    while self._buffer and self._redactor is not None:
                        if not await self._sent_from_buffer(self._redactor):
                            return
            finally:
                found.close()

    async def _off_loop(self, work: Callable[..., Any], *args: Any) -> Any:
        try:
            return await asyncio.to_thread(work, *args)
        except RuntimeError:
            # The program ends, and has no more threads.
            return work(*args)

    # --- the end

    async def _last_flush(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                self._is_flushing = True
                if self._has_lines():
                    await self._ship_safely()
        except (TimeoutError, asyncio.CancelledError):
            _log.debug("log lines were left at the end")
        finally:
            self._is_flushing = False
            self.end()

    def end(self) -> None:
        """Spool what is left: nobody ships it any more."""
        with self._lock:
            if self._buffer and self._is_set_up():
                while self._buffer and self._spill(len(self._buffer)):
                    pass
            if self._buffer:
                _log.warning(
                    "%d log lines are lost: they could be neither sent nor spooled", len(self._buffer)
                )
                self._counts["dropped"] += len(self._buffer)
                self._buffer.clear()
            if self._spool is not None:
                self._spool.close()
            # The next line reads the settings again.
            self._redactor = self._spool = None
            self._adopt_at = 0.0

    async def flush(self, seconds: float) -> bool:
        """Ship now; return whether all that was logged is stored."""
        ends, failures = time.monotonic() + seconds, self._failure_count
        if not self._has_lines() and not self._is_busy:
            return True
        self._is_flushing = True
        self._nudge()
        try:
            while (self._has_lines() or self._is_busy) and self._failure_count == failures:
                if time.monotonic() >= ends:
                    return False
                await asyncio.sleep(0.005)
        finally:
            self._is_flushing = False
        return self._failure_count == failures

    async def aclose(self) -> None:
        """Ship or spool what is left, and end; the next line begins anew."""
        task, thread = self._task, self._thread
        if thread is not None and thread.is_alive():
            self._is_ending = True
            await asyncio.to_thread(thread.join, FLUSH_SECONDS * 2)
            self._is_ending = False
        elif task is not None and self._loop is asyncio.get_running_loop():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def stats(self) -> LogStats:
        """Return the counters of this process."""
        return {
            "buffered": len(self._buffer),
            "spooled": self._spool.line_count if self._spool is not None else 0,
            "sent": self._counts["sent"],
            "dropped": self._counts["dropped"],
            "refused": self._counts["refused"],
        }


def _events(lines: Sequence[bytes]) -> list[Any]:
    """Read lines; one that a process wrote in part, or somebody else, is left out."""
    try:
        return from_json(b"[%b]" % b",".join(lines))
    except ValueError:
        return [event for line in lines if (event := _event(line)) is not None]


def _event(line: bytes) -> Any:
    try:
        return from_json(line)
    except ValueError:
        return None


_all: weakref.WeakSet[Shipper] = weakref.WeakSet()
_of_the_parent: list[object] = []


def _after_fork() -> None:
    # Neither closed nor collected here: the loop and its task live on in the parent.
    IDS.begin_anew()
    for shipper in list(_all):
        _of_the_parent.extend(shipper.after_fork())


def _at_exit() -> None:
    for shipper in list(_all):
        shipper.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
