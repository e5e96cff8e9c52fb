"""The published client of the gateway, unchanged, in an environment of its own, against `dominus dev`."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dominus import Dominus

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from test_cli import Running, dev

PACKAGES = ("bridgebase==0.2.0", "redis>=5,<9", "tigerbeetle>=0.16")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the published client, and nothing of ours."""
    folder = tmp_path_factory.mktemp("published") / "venv"
    venv.create(folder, with_pip=True)
    made = folder / "bin" / "python"
    done = subprocess.run(
        [made, "-m", "pip", "install", "-q", *PACKAGES],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    if done.returncode != 0:
        why = f"the published client was not installed: {done.stderr.strip()[-300:]}"
        pytest.fail(why) if os.environ.get("DOMINUS_REQUIRE_COMPAT") == "1" else pytest.skip(why)
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with dev(tmp_path_factory.mktemp("dev") / "home", DOMINUS_GATEWAY_PORT="0") as running:
        yield running


Run = Callable[..., str]


@pytest.fixture
def run(python: Path, server: Running) -> Run:
    def execute(code: str, token: str) -> str:
        done = subprocess.run(
            [python, "-I", "-c", code, token, server.url],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return execute


async def token(server: Running, target: str) -> str:
    async with Dominus(server.url, server.token) as client:
        return await client.sessions.token(target)


async def test_its_redis_session_works(run: Run, server: Running):
    code = """
import sys
from bridgebase.redis import redis
session = redis(jwt_token=sys.argv[1], api_base_url=sys.argv[2])
with session as rd:
    rd.set("key", "value" * 20_000)
    assert rd.get("key") == "value" * 20_000
    assert rd.pipeline().incr("n").incr("n").execute() == [1, 2]
    print(rd.get("n"))
session.close()
"""
    assert run(code, await token(server, "redis")) == "2"


async def test_what_it_wrote_our_session_reads(run: Run, server: Running):
    code = """
import sys
from bridgebase.redis import redis
with redis(jwt_token=sys.argv[1], api_base_url=sys.argv[2]) as rd:
    rd.set("from", "published")
"""
    run(code, await token(server, "redis"))
    async with Dominus(server.url, server.token) as client, client.sessions.redis() as rd:
        assert await rd.get("from") == "published"


async def test_its_credentials_open_the_database_and_are_released(run: Run, server: Running):
    code = """
import sys
from bridgebase.core.credentials import CredentialClient
client = CredentialClient(sys.argv[2])
made = client.fetch(sys.argv[1], db_type="postgres")
assert made.password not in repr(client)
client.release(sys.argv[1], made.username)
print(made.username, made.port)
"""
    name, port = run(code, await token(server, "postgres")).split()
    assert name
    assert int(port) > 0


@pytest.mark.parametrize("given", ["no-token", "of-http"])
async def test_it_is_told_when_its_token_is_none(run: Run, server: Running, given: str):
    code = """
import sys
from bridgebase.core.exceptions import AuthError
from bridgebase.redis import redis
try:
    redis(jwt_token=sys.argv[1], api_base_url=sys.argv[2]).connect()
except AuthError:
    print("refused")
"""
    async with Dominus(server.url, server.token) as client:
        other = (
            "no-token"
            if given == "no-token"
            else (await client.auth.mint_jwt("someone", ["*"]))["access_token"]
        )
    assert run(code, other) == "refused"
