"""Imports ahead of time: not inside a short deadline, not at import, and harmless to forks and to the program's end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from dominus.transport.preload import Preload

SERVER = """
import asyncio, os, sys, threading, time
from dominus import Dominus, DominusError
async def serve(reader, writer):
    try:
        await serve_all(reader, writer)
    except (OSError, asyncio.IncompleteReadError):
        writer.close()
async def serve_all(reader, writer):
    while head := await reader.readuntil(b"\\r\\n\\r\\n") if not reader.at_eof() else b"":
        length = [line for line in head.lower().split(b"\\r\\n") if line.startswith(b"content-length")]
        await reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
        body = b'{"success":true,"data":{"access_token":"a.b.c","expires_in":900,"found":true,"value":7,"status":"ok","engines":{}}}'
        writer.write(b"HTTP/1.1 200 X\\r\\ndominus-wire: json\\r\\ncontent-length: %d\\r\\n\\r\\n%b" % (len(body), body))
listeners = []
async def closing(coroutine):
    await coroutine
    for listener in listeners:
        listener.close()
async def client():
    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    listeners.append(listener)
    return Dominus(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", "t" * 43)
"""


def run(code: str) -> str:
    """Run code in a fresh interpreter that has warnings as errors; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SERVER + code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_first_call_ends_at_its_deadline_though_its_imports_take_longer():
    printed = run("""
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "aiohttp":
            time.sleep(3)
async def main():
    sys.meta_path.insert(0, Slow())
    d = await client()
    d.redis
    began = time.perf_counter()
    try:
        await d.redis.get("k", timeout=0.2)
    except DominusError as error:
        print(type(error).__name__, error.endpoint, "warmup" in error.hint, time.perf_counter() - began < 2.5)
    print(await d.redis.get("k", timeout=30))
    await d.aclose()
asyncio.run(closing(main()))
""")
    assert printed.splitlines() == ["DominusTimeoutError redis.get True True", "7"]


def test_after_warmup_no_first_use_of_anything_imports_a_module():
    printed = run("""
async def main():
    d = await client()
    await d.health.warmup()
    before = set(sys.modules)
    await d.redis.get("k")
    await d.health.ping()
    d.db, d.ddl, d.secrets, d.auth, d.sessions
    print(sorted(set(sys.modules) - before))
    await d.aclose()
asyncio.run(closing(main()))
""")
    assert printed == "[]"


def test_touching_a_namespace_in_a_loop_begins_the_imports_of_the_first_call():
    printed = run("""
async def main():
    d = await client()
    d.redis
    ends = time.monotonic() + 30
    while "dominus.transport.circuit" not in sys.modules and time.monotonic() < ends:
        await asyncio.sleep(0.01)
    print("dominus.transport.pipeline" in sys.modules)
asyncio.run(closing(main()))
""")
    assert printed == "True"


def test_touching_a_namespace_without_a_loop_imports_no_more_than_it():
    assert run("Dominus().redis\nprint('aiohttp' in sys.modules, threading.active_count())") == "False 1"


def test_the_loop_goes_on_while_the_imports_run():
    printed = run("""
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "aiohttp":
            time.sleep(2)
async def main():
    sys.meta_path.insert(0, Slow())
    d = await client()
    d.redis
    longest, last = 0.0, time.perf_counter()
    call = asyncio.create_task(d.redis.get("k"))
    while not call.done():
        await asyncio.sleep(0.001)
        longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
    print(call.result(), longest < 1.5)
    await d.aclose()
asyncio.run(closing(main()))
""")
    assert printed == "7 True"


@pytest.mark.parametrize("ending", ["", "os._exit(0)", "sys.exit(0)"])
def test_a_program_that_ends_while_the_imports_run_ends_quietly(ending: str):
    run(f"""
async def main():
    Dominus().redis
asyncio.run(closing(main()))
{ending}
""")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork here")
def test_a_child_of_a_fork_during_the_imports_can_call():
    printed = run("""
async def in_child():
    d = await client()
    print(await d.redis.get("k", timeout=30), flush=True)
    await d.aclose()
from dominus.transport.preload import WIRE
WIRE.start()
pid = os.fork()
if pid == 0:
    asyncio.run(closing(in_child()))
    os._exit(0)
print(os.waitpid(pid, 0)[1])
""")
    assert printed.splitlines() == ["7", "0"]


async def test_what_cannot_be_imported_is_left_to_who_needs_it():
    preload = Preload("dominus.no_such_module", "dominus.transport.clock")
    await asyncio.wait_for(preload.finish(), 10)
    assert preload.is_done


async def test_many_wait_for_one_thread_and_a_cancelled_one_disturbs_nobody():
    preload = Preload("dominus.transport.clock")
    gate = threading.Event()
    preload._import = lambda: (gate.wait(10), Preload._import(preload))  # type: ignore[method-assign]
    waiting = [asyncio.create_task(preload.finish()) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    gate.set()
    results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [None] * 4
    assert (
        sum(thread.name == "dominus-imports" and thread.is_alive() for thread in threading.enumerate()) <= 1
    )


def test_a_loop_that_is_closed_before_the_imports_end_is_left_alone():
    preload = Preload("dominus.transport.clock")
    gate = threading.Event()
    preload._import = lambda: (gate.wait(10), Preload._import(preload))  # type: ignore[method-assign]
    loop = asyncio.new_event_loop()
    task = loop.create_task(preload.finish())
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    gate.set()
    assert preload._thread is not None
    preload._thread.join(10)
    assert preload.is_done
