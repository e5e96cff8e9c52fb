"""What an outage is measured with: a server that goes away, the clients side by side, and callers that call in a loop."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import stamina
from stack import Dev, start

from dominus import Dominus
from dominus.errors import DominusError

sys.path.append(str(Path(__file__).parents[1]))  # what tests share
from forwarder import Forwarder, forwarder

__all__ = ["Callers", "Client", "Server", "forwarder", "ours", "theirs"]


@dataclass
class Server:
    """A `dominus dev` behind the forwarder."""

    home: Path
    front: Forwarder
    dev: Dev
    process: subprocess.Popen[bytes]

    async def outage(self, seconds: float, attempts: Callable[[], int], *, is_kill: bool) -> Outage:
        """Be away for so long, or until a killed server is there again."""
        # Both block for a moment, so that the client can do nothing between the count and the outage's begin or end.
        before = attempts()
        left = self.front.stop_listening() if is_kill else self.front.leave()
        if is_kill:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
            self.dev, self.process = await asyncio.to_thread(start, self.home)
            self.front.target = int(self.dev.url.rpartition(":")[2])
        await asyncio.sleep(left + seconds - time.monotonic())
        count = attempts() - before
        return Outage(left, self.front.listen(), count)


@dataclass(frozen=True)
class Outage:
    """When the server left and was back, and how many attempts a client made in between."""

    left: float
    back: float
    attempts: int


@dataclass
class Client:
    """One contender: `call` increments a key and returns its value."""

    call: Callable[[str], Awaitable[int]]
    attempts: Callable[[], int]
    """How often something was sent, or tried to be: nobody can count on a port that refuses."""


@contextlib.asynccontextmanager
async def ours(server: Server, *, fail_fast: bool = False) -> AsyncIterator[Client]:
    async with Dominus(server.front.url, server.dev.token, fail_fast=fail_fast) as client:
        yield Client(client.redis.incr, lambda: client.stats()["attempts"])


@contextlib.asynccontextmanager
async def theirs(server: Server) -> AsyncIterator[Client]:
    """httpx and stamina with their defaults: 5 s for each step, 100 connections; 10 attempts in 45 s.

    What stamina cannot know: whether a write whose answer was lost has been done. It repeats it, as most programs have it do,
    and the column of writes done twice says what that comes to. Ours repeats it under the key of the first attempt.
    """
    async with Dominus(server.dev.url, server.dev.token) as one:
        jwt = (await one.auth.token())["access_token"]
    count = 0

    async def count_attempt(_: httpx.Request) -> None:
        nonlocal count
        count += 1

    def can_help(error: Exception) -> bool:
        if isinstance(error, httpx.HTTPStatusError):
            return error.response.status_code >= 500
        return isinstance(error, httpx.HTTPError)

    async with httpx.AsyncClient(
        base_url=server.front.url,
        headers={"authorization": f"Bearer {jwt}"},
        event_hooks={"request": [count_attempt]},
    ) as http:

        @stamina.retry(on=can_help)
        async def incr(key: str) -> int:
            response = await http.post("/api/whisperer/incr", json={"logical_path": key})
            response.raise_for_status()
            return response.json()["data"]["value"]

        yield Client(incr, lambda: count)


@dataclass
class Callers:
    """Callers that call in a loop, and what became of their calls."""

    client: Client
    count: int
    key: str
    began: dict[int, float] = field(default_factory=dict[int, float])
    """Of the calls under way."""
    last_success: dict[int, float] = field(default_factory=dict[int, float])
    first_since: dict[int, float] = field(default_factory=dict[int, float])
    """When each caller had its first success since `mark`."""
    mark: float = float("inf")
    done: int = 0
    failed: int = 0
    longest: float = 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run them for a block; it begins when each of them had a success."""
        tasks = [asyncio.create_task(self._loop(number)) for number in range(self.count)]
        try:
            async with asyncio.timeout(30):
                while len(self.last_success) < self.count:
                    await asyncio.sleep(0.01)
            yield
        finally:
            now = time.monotonic()
            self.longest = max(self.longest, *(now - began for began in self.began.values()), 0.0)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if not isinstance(result, asyncio.CancelledError):
                    raise RuntimeError("a caller ended by itself") from result

    async def _loop(self, number: int) -> None:
        # About 500 calls a second whatever their count: what is measured is the outage, and not a busy machine.
        pause = max(0.01, self.count * 0.002)
        await asyncio.sleep(pause * number / self.count)
        while True:
            began = self.began[number] = time.monotonic()
            try:
                await self.client.call(self.key)
            except (DominusError, httpx.HTTPError):
                self.failed += 1
                ended = time.monotonic()
            else:
                self.done += 1
                ended = self.last_success[number] = time.monotonic()
                if ended >= self.mark:
                    self.first_since.setdefault(number, ended)
            del self.began[number]
            self.longest = max(self.longest, ended - began)
            await asyncio.sleep(pause)

    async def all_go_on(self, moment: float, seconds: float) -> None:
        """Wait until each has had a success since a moment, for so long at most."""
        self.mark = moment
        for number, ended in self.last_success.items():
            if ended >= moment:
                self.first_since.setdefault(number, ended)
        while len(self.first_since) < self.count and time.monotonic() < moment + seconds:
            await asyncio.sleep(0.01)
