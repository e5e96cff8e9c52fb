"""Real servers that are killed, engines that are stopped, and callers that note how each of their calls ended."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from forwarder import Forwarder
from redis_peer import redis_server

from dominus import Dominus
from dominus.errors import DominusError
from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres

ROOT_TOKEN = "root-token-of-the-tests-0123456789-0123456789-abc"


@dataclass(frozen=True)
class Engines:
    """A PostgreSQL and a Redis of this module, which tests stop and start."""

    postgres: EmbeddedPostgres
    dsn: str
    redis: subprocess.Popen[bytes]
    redis_url: str

    async def sql(self, *statements: str) -> None:
        """Run statements as the role of users' statements."""
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            for statement in ("SET ROLE dominus_data", *statements):
                await connection.execute(statement)
        finally:
            await connection.close()

    def restart_postgres(self, seconds: float) -> float:
        """Stop PostgreSQL, and start it again so many seconds later; return when it was back. Blocks."""
        self.postgres.stop()
        time.sleep(seconds)
        assert self.postgres.start() == self.dsn, "a running server would look for it elsewhere"
        return time.monotonic()

    async def hang_redis(self, seconds: float) -> float:
        """Let Redis take connections and answer nothing for so long; return when it went on."""
        self.redis.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.redis.send_signal(signal.SIGCONT)
        return time.monotonic()


@contextlib.contextmanager
def run_engines() -> Iterator[Engines]:
    """Run both for a block."""
    # Not pytest's folder: PostgreSQL's socket has a short path, or one that changes with every start.
    with tempfile.TemporaryDirectory(prefix="dominus-outage-") as name:
        folder = Path(name)
        with (
            EmbeddedPostgres(folder / "home", is_durable=False) as postgres,
            redis_server(folder) as (redis_url, redis),
        ):
            yield Engines(postgres, postgres.start(), redis, f"{redis_url}/0")


class Server:
    """A `dominus serve`; it is starting until `wait`."""

    def __init__(self, engines: Engines, folder: Path, master_key: str, **settings: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))}
        env = {
            **kept,
            "DOMINUS_DATABASE_URL": engines.dsn,
            "DOMINUS_REDIS_URL": engines.redis_url,
            "DOMINUS_MASTER_KEY": master_key,
            "DOMINUS_ROOT_TOKEN": ROOT_TOKEN,
            **{f"DOMINUS_{name}": value for name, value in settings.items()},
        }
        self._log = folder / f"serve-{secrets.token_hex(4)}.stderr"
        command = [sys.executable, "-m", "dominus.cli", "serve", "--host", "127.0.0.1", "--port", "0"]
        with self._log.open("w") as stderr:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, env=env)
        self.port = 0

    def wait(self) -> None:
        """Wait until it answers."""

        def is_ready() -> bool:
            assert self.process.poll() is None, self._log.read_text()
            found = re.search(r"serving on http://127\.0\.0\.1:(\d+)", self._log.read_text())
            self.port = int(found[1]) if found else 0
            return found is not None

        until(is_ready)

    def end(self) -> None:
        """End it, also when it is stopped or gone."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "the deadline passed"
        time.sleep(0.01)


async def eventually(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for it, at most so long; return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"not within {seconds} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


@dataclass
class Service:
    """A server behind a forwarder: what clients know is the forwarder's address."""

    engines: Engines
    server: Server
    standby: Server | None
    """Stands behind the address after an outage. It is started beforehand: a start takes longer than some outages here."""
    forwarder: Forwarder

    @property
    def pid(self) -> int:
        return self.server.process.pid

    async def outage(self, seconds: float, how: signal.Signals = signal.SIGKILL) -> tuple[float, float]:
        """End the server for good, and be back with the other after so long; return when it left and was back."""
        assert self.standby is not None
        left = self.forwarder.stop_listening()
        # Its connections are its own to close: a killed server does so by dying, another when they have their answers.
        self.server.process.send_signal(how)
        ended = asyncio.create_task(asyncio.to_thread(self.server.process.wait, 20))
        await asyncio.sleep(left + seconds - time.monotonic())
        await ended
        self.forwarder.target = self.standby.port
        return left, self.forwarder.listen()


@dataclass(frozen=True)
class Ended:
    """One call: when it began and ended, and what it raised."""

    began: float
    ended: float
    error: DominusError | None


@dataclass
class Callers:
    """What the calls of several callers came to."""

    count: int
    calls: list[list[Ended]] = field(repr=False)

    @property
    def failures(self) -> Counter[str]:
        """How many calls failed, by the name of the error."""
        return Counter(type(call.error).__name__ for calls in self.calls for call in calls if call.error)

    def first_success(self, moment: float) -> float:
        """Return the seconds from a moment to the end of the first call that succeeded after it; infinity for none."""
        return min(self._firsts(moment), default=float("inf"))

    def have_all_succeeded_since(self, moment: float) -> bool:
        return len(self._firsts(moment)) == self.count

    def _firsts(self, moment: float) -> list[float]:
        firsts = (
            next((call.ended - moment for call in calls if call.ended >= moment and call.error is None), None)
            for calls in self.calls
        )
        return [first for first in firsts if first is not None]


@contextlib.asynccontextmanager
async def calling(
    call: Callable[[int], Awaitable[object]], callers: int = 1, pause: float = 0.01
) -> AsyncIterator[Callers]:
    """Let so many callers call in a loop during a block, with a pause between calls.

    `call` is given the caller's number. Only DominusErrors are noted: any other exception fails the block.
    """
    found = Callers(callers, [[] for _ in range(callers)])

    async def loop(number: int) -> None:
        while True:
            began, error = time.monotonic(), None
            try:
                await call(number)
            except DominusError as raised:
                error = raised
            found.calls[number].append(Ended(began, time.monotonic(), error))
            await asyncio.sleep(pause)

    tasks = [asyncio.create_task(loop(number)) for number in range(callers)]
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                raise AssertionError("a caller ended by itself") from result


class Increments:
    """Each caller increments a key; a value must be one more than the last: nothing is lost, nothing is done twice."""

    def __init__(self, client: Dominus) -> None:
        self._client = client
        self._name = secrets.token_hex(8)
        self._counts: dict[int, int] = {}

    async def __call__(self, number: int) -> None:
        value = await self._client.redis.incr(f"{self._name}-{number}")
        before, self._counts[number] = self._counts.get(number, 0), value
        assert value == before + 1


def new_master_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()
