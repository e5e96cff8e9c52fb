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
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict

from dominus.shipping.accepted import ACCEPTED, DROPPED, Logged, Pause
from dominus.shipping.delivery import Delivery
from dominus.shipping.lines import IDS, make_line
from dominus.shipping.rounds import Rounds, off_loop
from dominus.shipping.waiting import BATCH_LINES, ShippingOptions, Waiting
from dominus.transport.deadline import deadline

__all__ = ["IS_SHIPPING", "LogStats", "Shipper", "ShippingOptions"]

_log = logging.getLogger("dominus.logs")
IS_SHIPPING: contextvars.ContextVar[bool] = contextvars.ContextVar("dominus_is_shipping", default=False)
"""Set in what the task does: a line that is logged there must not become another batch."""
INTERVAL_SECONDS = 1.0
SEND_SECONDS = 10.0
FLUSH_SECONDS = 2.0
WATCH_SECONDS = 0.2


class LogStats(TypedDict):
    """Lines by what became of them; `spooled` are on disk and sent later, `dropped` had no room, `refused` no sense."""

    buffered: int
    spooled: int
    sent: int
    dropped: int
    refused: int


class Shipper:
    """Takes lines from any thread, and ships them."""

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
        self._delivery = Delivery(send)
        self._waiting = Waiting(options, self._delivery.tell)
        self._rounds = Rounds(self._waiting, self._delivery)
        self._also_close = also_close
        self._dropped_count = self._told_count = 0
        self._begin_anew()
        _all.add(self)

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._is_ending = False
        self._is_awake = self._is_hurried = self._is_flushing = self._is_busy = False
        self._is_looking = False
        self._rounds.begin_anew()

    def after_fork(self) -> list[object]:
        """Begin anew in the child of a fork: lines, task and spool are the parent's, who ships them."""
        kept: list[object] = [self._task, self._loop, self._wake, self._thread, *self._waiting.after_fork()]
        self._delivery.begin_anew()
        self._dropped_count = self._told_count = 0
        self._begin_anew()
        return kept

    # --- taking lines

    def take(self, line: bytes) -> Logged:
        """Take a line; never wait. What it returns lets the loop have its turn when the buffer is half full."""
        waiting = self._waiting
        buffer = waiting.lines
        count = len(buffer)
        if count >= waiting.limit and not waiting.made_room():
            self._dropped_count += 1
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
        return ACCEPTED if count * 2 < waiting.limit else Pause()

    # --- who ships

    def _nudge(self) -> None:
        self._is_awake = True
        if len(self._waiting.lines) > BATCH_LINES:
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
        while not self._waiting.has_lines and not self._is_looking:
            self._is_awake = False
            if not self._waiting.lines:
                self._wake.clear()
                await self._wake.wait()
            self._is_awake = True

    async def _gather(self) -> None:
        """Let lines come together, or time pass after a failure; lines that come meanwhile are safe on disk then."""
        delay, waiting = self._delivery.delay_seconds, self._waiting
        ends = time.monotonic() + (delay or INTERVAL_SECONDS)
        while not self._is_flushing and (left := ends - time.monotonic()) > 0:
            self._is_hurried = False
            self._wake.clear()
            if len(waiting.lines) > BATCH_LINES:
                if not delay:
                    return
                if await off_loop(waiting.spill, BATCH_LINES):
                    continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()

    async def _ship_safely(self) -> None:
        self._is_busy = True
        failures = self._delivery.failure_count
        try:
            # In a hurry others' lines are looked for once: a program that logs a line and ends, or only queries, does.
            if await self._rounds.ship():
                if not (self._is_flushing and self._rounds.has_adopted):
                    await self._rounds.adopt()
                self._say_what_was_dropped()
        except Exception as error:  # noqa: BLE001 - a mistake of ours must neither end the task nor make it run hot
            _log.error("log lines wait", exc_info=error)
            self._delivery.failed(error)
        finally:
            self._is_busy = self._is_looking = False
            self._is_flushing = self._is_flushing and self._delivery.failure_count == failures

    def _say_what_was_dropped(self) -> None:
        missing = self._dropped_count - self._told_count
        if missing > 0:
            self._told_count += missing
            text = f"{missing} log lines were dropped: the buffer and the spool were full"
            self._waiting.lines.append(make_line("warn", text, {"dropped": missing}, "dominus"))

    # --- the end

    async def _last_flush(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                self._is_flushing = True
                if self._waiting.has_lines:
                    await self._ship_safely()
        except (TimeoutError, asyncio.CancelledError):
            _log.debug("log lines were left at the end")
        finally:
            self._is_flushing = False
            self.end()

    def end(self) -> None:
        """Spool what is left: nobody ships it any more."""
        with self._lock:
            if lost := self._waiting.close():
                _log.warning("%d log lines are lost: they could be neither sent nor spooled", lost)
                self._dropped_count += lost
            self._rounds.begin_anew()

    async def flush(self, seconds: float) -> bool:
        """Ship now, at the first time also what others left; return whether all that was logged is stored."""
        ends, failures = time.monotonic() + seconds, self._delivery.failure_count
        if not self._rounds.has_adopted and self._waiting.is_set_up(is_quiet=True):
            self._is_looking = self._waiting.spool is not None
        if not self._is_unfinished():
            return True
        self._is_flushing = True
        self._nudge()
        try:
            while self._is_unfinished() and self._delivery.failure_count == failures:
                if time.monotonic() >= ends:
                    return False
                await asyncio.sleep(0.005)
        finally:
            self._is_flushing = False
        return self._delivery.failure_count == failures

    def _is_unfinished(self) -> bool:
        return self._waiting.has_lines or self._is_busy or self._is_looking

    async def aclose(self) -> None:
        """Ship or spool what is left, and end; the next line begins anew."""
        task, thread = self._task, self._thread
        if thread is not None and thread.is_alive():
            self._is_ending = True
            await asyncio.to_thread(thread.join, FLUSH_SECONDS * 2)
            self._is_ending = False
        elif task is not None and self._loop is asyncio.get_running_loop():
            # A task that is cancelled before its first step ends without having run: nothing would be flushed.
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def stats(self) -> LogStats:
        """Return the counters of this process."""
        return {
            "buffered": len(self._waiting.lines),
            "spooled": self._waiting.spool.line_count if self._waiting.spool is not None else 0,
            "sent": self._delivery.sent_count,
            "dropped": self._dropped_count,
            "refused": self._delivery.refused_count,
        }


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
