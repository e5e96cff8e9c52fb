"""Lines on their way: nothing is lost, nothing is stored twice, whichever side ends, and however."""
# ruff: noqa: G004, G010, PLE1205 - these are our own loggers

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from live_support import Live, live

from dominus import Dominus

__all__ = ["live"]
# A shell that starts the tests in the background has SIGINT ignored, and what is ignored is inherited.
PRELUDE = """
import asyncio, logging, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from dominus import dominus
tag = os.environ["TAG"]
"""


@pytest.fixture
def tag() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@contextlib.asynccontextmanager
async def client_of(live: Live, home: Path, **options: Any) -> AsyncIterator[Dominus]:
    async with Dominus(live.url, live.psk, home=str(home), **options) as client:
        yield client


async def stored(live: Live, tag: str, count: int, home: Path) -> list[Any]:
    """Return the lines of a category, when so many are there; the oldest first."""
    ends = time.monotonic() + 20
    async with client_of(live, home) as reader:
        while True:
            found = await reader.logs.query(category=tag, limit=1000)
            if len(found) >= count or time.monotonic() > ends:
                return found[::-1]
            await asyncio.sleep(0.05)


def program(live: Live | None, tag: str, home: Path, code: str, **more: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))}
    where = {"DOMINUS_URL": live.url, "DOMINUS_TOKEN": live.psk} if live else {}
    env = {**kept, **where, "DOMINUS_HOME": str(home), "TAG": tag, **more}
    command = [sys.executable, "-W", "error", "-c", PRELUDE + code]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(live: Live | None, tag: str, home: Path, code: str, **more: str) -> str:
    with program(live, tag, home, code, **more) as process:
        out, err = process.communicate(timeout=40)
    assert process.returncode == 0, err
    assert err == ""
    return out.strip()


def messages(found: list[Any]) -> list[str]:
    return [entry["message"] for entry in found]


# --- a program's end


async def test_what_a_program_logs_last_is_stored_when_it_ends(live: Live, tag: str, tmp_path: Path) -> None:
    run(
        live,
        tag,
        tmp_path,
        """
async def main():
    for n in range(700):
        await dominus.logs.info(f"m{n}", {"password": "hunter2"}, category=tag)
asyncio.run(main())
""",
    )
    found = await stored(live, tag, 700, tmp_path)
    assert messages(found) == [f"m{n}" for n in range(700)]
    assert found[0]["context"] == {"password": "***"}
    assert found[0]["function"] == "main"
    assert not list(tmp_path.rglob("*.spool"))


async def test_a_program_without_a_loop_logs_through_the_standard_library(
    live: Live, tag: str, tmp_path: Path
) -> None:
    run(
        live,
        tag,
        tmp_path,
        """
import threading
logger = logging.getLogger(tag)
logger.setLevel(logging.DEBUG)
logging.getLogger().addHandler(dominus.logs.handler())
logging.getLogger().setLevel(logging.DEBUG)
def work(n):
    logger.info("m%d", n, extra={"n": n})
threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("failed")
""",
    )
    found = await stored(live, tag, 21, tmp_path)
    assert sorted(messages(found)) == sorted([*(f"m{n}" for n in range(20)), "failed"])
    failed = next(entry for entry in found if entry["message"] == "failed")
    assert failed["context"]["exception"]["type"] == "ZeroDivisionError"
    assert (failed["level"], failed["function"]) == ("error", "<module>")
    assert next(entry for entry in found if entry["message"] == "m7")["context"] == {"n": 7}


async def test_nobody_to_send_to_costs_a_program_two_seconds_at_most_and_no_line(
    live: Live, tag: str, tmp_path: Path
) -> None:
    """The next process of the same home sends what the first has left."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        out = run(
            live,
            tag,
            tmp_path,
            """
import time
async def main():
    for n in range(50):
        await dominus.logs.info(f"m{n}", {"token": "abc123456"}, category=tag)
    await asyncio.sleep(0.05)
    return time.monotonic()
ended = asyncio.run(main())
print(time.monotonic() - ended)
""",
            DOMINUS_URL=url,
        )
    assert float(out) < 3.5
    [spool] = tmp_path.rglob("*.spool")
    assert spool.stat().st_mode & 0o777 == 0o600
    text = spool.read_text()
    assert text.count("\n") == 50
    assert "abc123456" not in text
    assert live.psk not in text


async def test_lines_that_a_killed_process_has_spooled_are_sent_once_by_a_later_one(
    live: Live, tag: str, tmp_path: Path
) -> None:
    code = """
from dominus.shipping.options import options_of
from dominus.shipping.lines import make_line
from dominus.settings import load_settings
spool = options_of(load_settings())["spool"]
lines = [make_line("info", f"m{n}", None, tag) for n in range(30)]
spool.append(lines)
if os.environ.get("HALF"):
    import pydantic_core
    async def main():
        await dominus.logs.batch([pydantic_core.from_json(line) for line in lines[:10]])
    asyncio.run(main())
os.kill(os.getpid(), 9)
"""
    with program(live, tag, tmp_path, code, HALF="1") as process:
        process.communicate(timeout=40)
    assert process.returncode == -signal.SIGKILL
    assert len(list(tmp_path.rglob("*.spool"))) == 1
    async with client_of(live, tmp_path) as client:
        await client.logs.info("mine", category=tag)
        await client.logs.flush()
        await client.logs.info("mine too", category=tag)
        found = await stored(live, tag, 32, tmp_path)
    assert messages(found) == [*(f"m{n}" for n in range(30)), "mine", "mine too"]
    assert not list(tmp_path.rglob("*.spool"))


SPOOLED = """
from dominus.shipping.options import options_of
from dominus.shipping.lines import make_line
from dominus.settings import load_settings
options_of(load_settings())["spool"].append([make_line("info", f"m{n}", None, tag) for n in range(1200)])
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(
    "does",
    [
        "print(len(await dominus.logs.query(category=tag, limit=1000)))",
        'dominus.logs.info("mine", category=tag + "x")',
        "assert await dominus.logs.flush(timeout=10)",
    ],
    ids=["only queries", "logs a line and ends", "only flushes"],
)
async def test_however_short_a_later_process_lives_it_sends_what_a_killed_one_has_left(
    does: str, live: Live, tag: str, tmp_path: Path
) -> None:
    with program(live, tag, tmp_path, SPOOLED) as process:
        process.communicate(timeout=40)
    out = run(live, tag, tmp_path, f"async def main():\n    {does}\nasyncio.run(main())\n")
    assert out in {"1000", ""}
    assert not list(tmp_path.rglob("*.spool"))
    async with client_of(live, tmp_path / "other") as client:
        assert len(await client.logs.query(category=tag, limit=1000)) == 1000
        assert len(await client.logs.query(category=tag, limit=1000, search="m1199")) == 1


async def test_a_query_of_a_second_loop_finds_what_the_first_one_left_for_a_server_that_was_away(
    live: Live, tag: str, tmp_path: Path
) -> None:
    """Each loop that ends closes the spool; the next one looks for it again."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as none:
        away = f"http://127.0.0.1:{none.getsockname()[1]}"
    out = run(
        live,
        tag,
        tmp_path,
        """
from dominus.shipping import options
# One server, that is away at first and then answers.
options._tag = lambda settings, token: "same"
from dominus import Dominus
async def log():
    async with Dominus(os.environ["AWAY"], os.environ["DOMINUS_TOKEN"], cold_start_timeout=0) as client:
        await client.logs.info("left", category=tag)
async def find():
    return [entry["message"] for entry in await dominus.logs.query(category=tag)]
asyncio.run(log())
print(asyncio.run(find()), asyncio.run(find()))
""",
        AWAY=away,
    )
    assert out == "['left'] ['left']"


@pytest.mark.parametrize("sent", ["lines", "nothing"])
async def test_ctrl_c_within_the_last_flush_loses_no_line_that_was_in_flight(
    sent: str, live: Live, tag: str, tmp_path: Path
) -> None:
    """The second Ctrl-C of an impatient user leaves asyncio.run at once, and the task within its request."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        code = """
async def main():
    for n in range(700):
        await dominus.logs.info(f"m{n}", category=tag)
    print("logged", flush=True)
    await asyncio.sleep(60 if os.environ["SENT"] == "nothing" else 0)
asyncio.run(main())
"""
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        process = program(live, tag, tmp_path, code, DOMINUS_URL=url, SENT=sent)
        with process:
            assert process.stdout is not None
            await asyncio.to_thread(process.stdout.readline)
            # Within the request of the last flush; before it a first one ends `main`.
            deaf.settimeout(20)
            if sent == "nothing":
                process.send_signal(signal.SIGINT)
            connection, _ = await asyncio.to_thread(deaf.accept)
            with contextlib.closing(connection):
                assert await asyncio.to_thread(connection.recv, 65536)
                began = time.monotonic()
                process.send_signal(signal.SIGINT)
                await asyncio.to_thread(process.wait, 20)
                assert time.monotonic() - began < 3.5
    text = "".join(path.read_text() for path in tmp_path.rglob("*.spool"))
    lost = [n for n in range(700) if f'"message":"m{n}"' not in text]
    assert not lost
    assert text.count("\n") == 700


def _called(listener: socket.socket, process: Any) -> socket.socket | None:
    """Return the first connection, None when the process ended without one."""
    listener.settimeout(0.1)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            return listener.accept()[0]
        if process.poll() is not None:
            return None
    raise AssertionError("it neither called nor ended")


async def test_ctrl_c_while_a_program_without_a_loop_waits_for_its_last_lines_loses_none(
    live: Live, tag: str, tmp_path: Path
) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        code = """
logging.getLogger().addHandler(dominus.logs.handler())
logging.getLogger().setLevel(logging.INFO)
for n in range(700):
    logging.getLogger(tag).info("m%d", n)
"""
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with program(live, tag, tmp_path, code, DOMINUS_URL=url) as process:
            connection = await asyncio.to_thread(_called, deaf, process)
            # On a machine that is busy its 2 s may be over before it has called; then, too, nothing is lost.
            if connection is not None:
                with contextlib.closing(connection):
                    assert await asyncio.to_thread(connection.recv, 65536)
                    began = time.monotonic()
                    process.send_signal(signal.SIGINT)
                    await asyncio.to_thread(process.wait, 20)
                    assert time.monotonic() - began < 3.5
    [spool] = tmp_path.rglob("*.spool")
    assert sorted(re.findall(r'"message":"m(\d+)"', spool.read_text()), key=int) == [
        str(n) for n in range(700)
    ]


async def test_the_child_of_a_fork_begins_with_an_empty_buffer(live: Live, tag: str, tmp_path: Path) -> None:
    run(
        live,
        tag,
        tmp_path,
        """
import warnings
warnings.simplefilter("ignore")
dominus.logs.info("before", category=tag)
pid = os.fork()
dominus.logs.info("child" if pid == 0 else "parent", category=tag)
async def main():
    assert await dominus.logs.flush(timeout=10)
asyncio.run(main())
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
""",
    )
    assert sorted(messages(await stored(live, tag, 3, tmp_path))) == ["before", "child", "parent"]


# --- the orchestrator's end


class Restartable:
    """A `dominus dev` on one port that is killed and started again."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port = home, port
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))}
        command = [
            sys.executable,
            "-m",
            "dominus.cli",
            "dev",
            "--home",
            str(self.home),
            "--port",
            str(self.port),
        ]
        env = {**kept, "DOMINUS_IS_DURABLE": "false", "DOMINUS_GATEWAY_PORT": "0"}
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"DOMINUS_URL=http://127.0.0.1:(\d+)", line):
                self.port = int(found[1])
                return
        pytest.fail("dominus dev did not start")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def live(self) -> Live:
        return Live(f"http://127.0.0.1:{self.port}", (self.home / "token").read_text().strip(), self.home)


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[Restartable]:
    server = Restartable(tmp_path / "server", 0)
    server.start()
    yield server
    if server.process is not None:
        server.process.terminate()
        server.process.communicate(timeout=30)


async def test_kill_9_of_the_orchestrator_loses_and_doubles_no_line(
    restartable: Restartable, tag: str, tmp_path: Path
) -> None:
    count = int(os.environ.get("TEST_LOG_LINES", "20000"))
    live = restartable.live()
    async with client_of(live, tmp_path / "home") as client:
        began = time.monotonic()
        killed: asyncio.Task[None] | None = None
        for n in range(count):
            assert await client.logs.info(f"m{n}", {"n": n}, category=tag)
            if n == count // 3:
                while client.logs.stats()["sent"] == 0 and time.monotonic() < began + 20:
                    await asyncio.sleep(0.005)
                await asyncio.to_thread(restartable.kill)
            if n == count * 2 // 3:
                killed = asyncio.create_task(asyncio.to_thread(restartable.start))
            if n % 100 == 0:
                await asyncio.sleep(0.001)
        assert killed is not None
        await killed
        ends = time.monotonic() + 60
        while not await client.logs.flush(timeout=10) and time.monotonic() < ends:
            await asyncio.sleep(0.1)
        stats = client.logs.stats()
        assert (stats["buffered"], stats["spooled"], stats["dropped"], stats["refused"]) == (0, 0, 0, 0)
    database = await _count(restartable, tag)
    assert database == (count, count)


async def _count(server: Restartable, tag: str) -> tuple[int, int]:
    import asyncpg

    connection: Any = await asyncpg.connect((server.home / "dsn").read_text().strip())
    try:
        row = await connection.fetchrow(
            "SELECT count(*), count(DISTINCT message) FROM dominus.logs WHERE category = $1", tag
        )
        return row[0], row[1]
    finally:
        await connection.close()


# --- while it runs


async def test_a_full_buffer_goes_to_the_spool_and_then_lines_are_dropped_and_told(
    live: Live, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOMINUS_LOG_BUFFER", "1000")
    monkeypatch.setenv("DOMINUS_LOG_SPOOL_BYTES", "150000")
    async with client_of(live, tmp_path) as client:
        await client.logs.info("the settings are read", category="other")
        assert await client.logs.flush(timeout=10)
        # Nothing is awaited in between, so that the task has no turn.
        taken = [client.logs.info(f"m{n}", category=tag) for n in range(3000)]
        accepted = [n for n, logged in enumerate(taken) if await logged]
        stats = client.logs.stats()
        assert stats["dropped"] == 3000 - len(accepted) > 0
        assert stats["spooled"] > 0
        assert await client.logs.flush(timeout=10)
        await asyncio.sleep(0)
        [told] = await client.logs.query(category="dominus", limit=1, search="dropped")
        assert told["context"] == {"dropped": stats["dropped"]}
    found = await stored(live, tag, min(1000, len(accepted)), tmp_path)
    assert found[-1]["message"] == f"m{accepted[-1]}"


async def test_own_lines_and_those_of_shipping_never_make_another(
    live: Live, tag: str, tmp_path: Path
) -> None:
    async with client_of(live, tmp_path) as client:
        handler = client.logs.handler()
        root = logging.getLogger()
        before = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            logging.getLogger("dominus.transport").warning("own")
            logging.getLogger(tag).warning("theirs")
            await client.logs.flush(timeout=5)
            sent = client.logs.stats()["sent"]
            for _ in range(3):
                await client.logs.flush(timeout=5)
            found = await client.logs.query(category=tag)
        finally:
            root.setLevel(before)
            root.removeHandler(handler)
        assert messages(found) == ["theirs"]
        # Of what a query itself makes asyncio or a library say, not one line is about shipping.
        assert client.logs.stats()["sent"] - sent < 5
        assert await client.logs.query(category="dominus.transport") == []


async def test_structlog_ships_and_hands_on(live: Live, tag: str, tmp_path: Path) -> None:
    import structlog

    async with client_of(live, tmp_path) as client:
        shown: list[Any] = []

        def show(_logger: Any, _name: str, event: Any) -> str:
            shown.append(dict(event))
            return ""

        logger: Any = structlog.wrap_logger(None, processors=[client.logs.processor(), show]).bind(logger=tag)
        with contextlib.suppress(Exception):
            logger.warning("low", left=3)
        [entry] = await client.logs.query(category=tag)
        assert (entry["level"], entry["message"], entry["context"]) == ("warn", "low", {"left": 3})
        assert entry["function"] == "test_structlog_ships_and_hands_on"
        assert shown[0]["event"] == "low"


async def test_a_tail_follows_until_it_is_left(live: Live, tag: str, tmp_path: Path) -> None:
    async with client_of(live, tmp_path) as client, client_of(live, tmp_path / "b") as other:
        await client.logs.info("old", category=tag)
        await client.logs.flush()
        seen: list[str] = []
        async for entry in client.logs.tail(category=tag, backlog=5):
            seen.append(entry["message"])
            if len(seen) == 3:
                break
            await other.logs.warn(f"new{len(seen)}", category=tag)
            await other.logs.flush()
        assert seen == ["old", "new1", "new2"]


async def test_lines_of_threads_go_the_way_of_the_loop(live: Live, tag: str, tmp_path: Path) -> None:
    async with client_of(live, tmp_path) as client:
        await client.logs.info("loop", category=tag)
        threads = [
            threading.Thread(target=client.logs.info, args=(f"t{n}",), kwargs={"category": tag})
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert len(await client.logs.query(category=tag)) == 9
        assert client.logs.stats()["sent"] >= 9


async def test_the_command_line_follows(live: Live, tag: str, tmp_path: Path) -> None:
    async with client_of(live, tmp_path) as client:
        await client.logs.error("a\x1b[31mred", {"n": 1}, category=tag)
        await client.logs.flush()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))}
    env = {**kept, "DOMINUS_URL": live.url, "DOMINUS_TOKEN": live.psk, "NO_COLOR": "1"}
    command = [sys.executable, "-m", "dominus.cli", "logs", "tail", "--category", tag, "--count", "1"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, timeout=30, check=True
    )
    assert "error" in done.stdout
    assert "a\\x1b[31mred" in done.stdout
    assert '{"n":1}' in done.stdout
    assert done.stderr == ""
