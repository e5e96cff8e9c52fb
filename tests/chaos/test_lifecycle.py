"""One client through several loops, threads, forks and ends of programs."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
import threading

import pytest
from conftest import TOKEN
from raw_server import RawServer, answers, raw_server

import dominus as package
from dominus import Dominus, ValidationError, dominus

HIT = answers({"found": True, "value": 7})
PRELUDE = """
    import asyncio, os, sys, threading
    from dominus import Dominus, ValidationError, dominus

    async def call():
        assert await dominus.redis.get("k") == 7
"""


async def run(server: RawServer, program: str, flags: tuple[str, ...] = ("-W", "error", "-X", "dev")) -> None:
    """Run a program in a fresh interpreter that treats every warning as an error; it must leave nothing to say."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(*flags, "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(program)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            "DOMINUS_URL": server.url,
            "DOMINUS_TOKEN": TOKEN,
            "PYTHONPATH": ":".join(sys.path),
            **{name: os.environ[name] for name in ("SSL_CERT_FILE",) if name in os.environ},
        },
    )
    async with asyncio.timeout(20):
        stdout, stderr = await process.communicate()
    # asyncio's debug mode, which -X dev turns on, remarks on slow steps: the first call imports the wire.
    assert [line for line in stderr.decode().splitlines() if not line.startswith("Executing <")] == []
    assert process.returncode == 0
    assert stdout.decode().strip() == "done"


@pytest.mark.parametrize(
    "program",
    {
        "without aclose": "asyncio.run(call()); print('done')",
        "several runs": "[asyncio.run(call()) for _ in range(3)]; print('done')",
        "with aclose": """
            async def main():
                await call()
                await dominus.aclose()
            asyncio.run(main()); print('done')
        """,
        "aclose in another run": """
            asyncio.run(call()); asyncio.run(dominus.aclose()); asyncio.run(call()); print('done')
        """,
        "aclose without a call": "asyncio.run(dominus.aclose()); print('done')",
        "a call that is under way at the end": """
            async def main():
                await call()
                task = asyncio.create_task(call())
                await asyncio.sleep(0)
            asyncio.run(main()); print('done')
        """,
        "an exception at the end": """
            async def main():
                await call()
                raise SystemExit(0)
            print('done', flush=True)
            asyncio.run(main())
        """,
        "a thread with a loop beside the main one": """
            thread = threading.Thread(target=lambda: asyncio.run(call()))
            thread.start(); asyncio.run(call()); thread.join(); print('done')
        """,
        "the token set after the import": """
            token = os.environ.pop("DOMINUS_TOKEN")
            os.environ["DOMINUS_TOKEN"] = token
            asyncio.run(call()); print('done')
        """,
        "a runner that lives longer than its tasks": """
            with asyncio.Runner() as runner:
                runner.run(call()); runner.run(call())
            print('done')
        """,
    }.items(),
    ids=lambda item: item[0],
)
async def test_a_program_ends_clean(program: tuple[str, str]):
    async with raw_server(HIT) as server:
        await run(server, program[1])


async def test_after_a_fork_parent_and_child_each_have_their_own_connections():
    async with raw_server(HIT) as server:
        await run(
            server,
            """
            import warnings
            warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
            loop = asyncio.new_event_loop()
            loop.run_until_complete(call())
            pid = os.fork()
            if pid == 0:
                # What multiprocessing and gunicorn do: a child has a loop of its own.
                asyncio.run(call())
                import gc; gc.collect()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            for _ in range(3):
                loop.run_until_complete(call())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            print('done')
            """,
        )
        assert server.mint_count == 1, "the token is good in the child as well"


async def test_a_fork_of_a_program_that_has_closed_its_loop_works():
    async with raw_server(HIT) as server:
        await run(
            server,
            """
            import warnings
            warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
            asyncio.run(call())
            pid = os.fork()
            if pid == 0:
                asyncio.run(call())
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            asyncio.run(call())
            print('done')
            """,
        )
        assert server.mint_count == 1


async def test_four_threads_with_a_loop_each_share_statistics_and_nothing_that_is_a_loop_s():
    async with raw_server(HIT) as server:
        client = Dominus(server.url, TOKEN)
        failures: list[BaseException] = []

        def work() -> None:
            async def calls() -> None:
                assert await asyncio.gather(*(client.redis.get("k") for _ in range(25))) == [7] * 25

            try:
                asyncio.run(calls())
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert failures == []
        assert 1 <= (minted := server.mint_count) <= 4
        await client.redis.get("k")
        assert server.mint_count == minted
        assert client.stats()["breakers"] == {"auth": "closed", "redis": "closed"}
        await client.aclose()


async def test_the_singleton_reads_the_environment_at_its_first_call_and_anew_after_aclose(
    monkeypatch: pytest.MonkeyPatch,
):
    async with raw_server(HIT) as first, raw_server(answers({"found": True, "value": 8})) as second:
        monkeypatch.setenv("DOMINUS_TOKEN", TOKEN)
        with pytest.raises(ValidationError, match="DOMINUS_URL is not set"):
            await dominus.redis.get("k")
        monkeypatch.setenv("DOMINUS_BASE_URL", first.url)
        assert await dominus.redis.get("k") == 7
        monkeypatch.setenv("DOMINUS_BASE_URL", second.url)
        assert await dominus.redis.get("k") == 7
        await dominus.aclose()
        assert await dominus.redis.get("k") == 8
        await dominus.aclose()
        assert package.dominus is dominus


async def test_an_instance_closes_itself_and_its_connections():
    async with raw_server(HIT) as server:
        async with Dominus(server.url, TOKEN) as client:
            await client.redis.get("k")
            assert server.open_count == 1
        async with asyncio.timeout(5):
            while server.open_count:
                await asyncio.sleep(0.005)
        # Closed is not over: it opens again.
        assert await client.redis.get("k") == 7
        await client.aclose()


async def test_a_program_that_never_shuts_its_loop_down_ends_without_unclosed_sessions() -> None:
    async with raw_server(HIT) as server:
        for ending in ("", "loop.close(); "):
            program = (
                f"loop = asyncio.new_event_loop(); loop.run_until_complete(call()); {ending}print('done')"
            )
            await run(server, program, flags=())
