"""The test kit in more than one event loop: FastAPI's TestClient, `asyncio.run` in a sync test, threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dominus import Dominus, NotFoundError, dominus
from dominus.testing import LocalOrchestrator, OrchestratorTemplate

TABLE: list[dict[str, Any]] = [
    {"name": "id", "type": "BIGSERIAL", "primary_key": True},
    {"name": "customer", "type": "TEXT"},
]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    await dominus.upsert("GREETING", "hello")
    app.state.greeting = await dominus.get("GREETING")
    yield
    await dominus.redis.set("ended", 1)
    await dominus.aclose()


def make_app(*, has_lifespan: bool = True) -> FastAPI:
    app = FastAPI(lifespan=lifespan if has_lifespan else None)

    @app.get("/greeting")
    async def greeting() -> str:
        return app.state.greeting

    @app.post("/orders/{customer}")
    async def place(customer: str) -> dict[str, Any]:
        async with dominus.redis.lock(f"orders:{customer}", ttl=60):
            return await dominus.db.insert("orders", {"customer": customer})

    @app.get("/orders")
    async def orders() -> list[str]:
        found = await dominus.db.query("orders", sort_by="id")
        return [row["customer"] for row in found["rows"]]

    return app


@pytest.fixture(autouse=True)
def nothing_is_left_unclosed() -> Iterator[None]:
    """Whatever a test left open is collected in that test, where a warning is an error."""
    yield
    gc.collect()


def test_a_sync_test_uses_the_singleton_through_a_test_client(dominus_singleton: Dominus):
    asyncio.run(dominus_singleton.ddl.add_table("orders", TABLE))
    with TestClient(make_app()) as client:
        assert client.get("/greeting").json() == "hello"
        assert client.post("/orders/ann").json()["customer"] == "ann"
        assert client.post("/orders/ben").json()["customer"] == "ben"
        assert client.get("/orders").json() == ["ann", "ben"]
    assert asyncio.run(dominus_singleton.redis.get("ended")) == 1
    assert asyncio.run(dominus_singleton.db.query("orders"))["total"] == 2


def test_a_test_client_without_a_block_makes_a_loop_for_each_request(dominus_singleton: Dominus):
    asyncio.run(dominus_singleton.ddl.add_table("orders", TABLE))
    client = TestClient(make_app(has_lifespan=False))
    for customer in ("ann", "ben", "cleo"):
        assert client.post(f"/orders/{customer}").status_code == 200
    assert client.get("/orders").json() == ["ann", "ben", "cleo"]


async def test_an_async_test_and_its_test_client_see_the_same(dominus_singleton: Dominus):
    await dominus_singleton.ddl.add_table("orders", TABLE)
    with TestClient(make_app()) as client:
        client.post("/orders/ann")
    rows = (await dominus_singleton.db.query("orders"))["rows"]
    assert [row["customer"] for row in rows] == ["ann"]
    assert await dominus_singleton.redis.get("ended") == 1


def test_each_sync_test_begins_with_nothing(dominus_singleton: Dominus):
    assert asyncio.run(dominus_singleton.db.tables()) == []
    with pytest.raises(NotFoundError):
        asyncio.run(dominus_singleton.get("GREETING"))


@pytest.mark.parametrize("user", ["ann", "ben"])
def test_each_test_verifies_the_tokens_of_its_own_orchestrator(dominus_singleton: Dominus, user: str):
    async def verify() -> str:
        minted = await dominus.auth.mint_jwt(user_id=user, expires_in=900)
        return (await dominus.auth.validate_jwt(minted["access_token"]))["sub"]

    assert user in asyncio.run(verify())


def test_a_client_that_was_closed_forgets_the_keys_it_knew(dominus_singleton: Dominus):
    async def known() -> tuple[int, int]:
        minted = await dominus.auth.mint_jwt(user_id="ann", expires_in=900)
        await dominus.auth.validate_jwt(minted["access_token"])
        calls = dominus.stats()["calls"]
        await dominus.auth.validate_jwt(minted["access_token"])
        again = dominus.stats()["calls"]
        await dominus.aclose()
        await dominus.auth.validate_jwt(minted["access_token"])
        return again - calls, dominus.stats()["calls"]

    assert asyncio.run(known()) == (0, 1)


@pytest.fixture(scope="module")
def long_lived() -> Iterator[TestClient]:
    with TestClient(make_app(has_lifespan=False)) as client:
        yield client


@pytest.mark.parametrize("customer", ["ann", "ben"])
def test_a_test_client_that_outlives_the_test_has_the_orchestrator_of_each_test(
    long_lived: TestClient, dominus_singleton: Dominus, customer: str
):
    asyncio.run(dominus_singleton.ddl.add_table("orders", TABLE))
    long_lived.post(f"/orders/{customer}")
    assert long_lived.get("/orders").json() == [customer]


def test_threads_with_a_loop_each_use_one_client(dominus_singleton: Dominus):
    def work(number: int) -> None:
        asyncio.run(dominus_singleton.redis.set(f"k{number}", number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = asyncio.run(dominus_singleton.redis.mget([f"k{number}" for number in range(4)]))
    assert found == [0, 1, 2, 3]


async def test_connections_of_other_loops_end_with_the_loop(dominus_orchestrator: OrchestratorTemplate):
    async with LocalOrchestrator(dominus_orchestrator) as local:
        client = local.client()
        await client.redis.set("k", 1)
        counted = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert local.app is not None
        system = local.app.resources.postgres.system
        before = await system.fetchval(counted)
        assert await asyncio.to_thread(asyncio.run, client.redis.get("k")) == 1
        async with asyncio.timeout(10):
            while await system.fetchval(counted) > before:
                await asyncio.sleep(0.01)
