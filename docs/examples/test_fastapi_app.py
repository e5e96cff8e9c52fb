"""Tests of fastapi_app.py, as any application can have them: pytest test_fastapi_app.py

`dominus_singleton` is a fixture of the plugin that comes with the package: an orchestrator of this test's own.
"""

import asyncio
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from fastapi_app import app

from dominus import Dominus, dominus
from dominus.integrations.fastapi import Principal, require_jwt


@pytest.fixture
def web(dominus_singleton: Dominus) -> Iterator[TestClient]:
    # With `with` the lifespan runs: the table is there.
    with TestClient(app) as client:
        yield client


def bearer(user: str, *scopes: str) -> dict[str, str]:
    minted = asyncio.run(dominus.auth.mint_jwt(user, scope=list(scopes)))
    return {"authorization": f"Bearer {minted['access_token']}"}


def test_who_places_an_order_reads_it_and_nobody_else_does(web: TestClient) -> None:
    ada, bob = bearer("ada", "orders:write"), bearer("bob", "orders:write")
    placed = web.post("/orders", json={"customer": "Shop", "total": "19.90"}, headers=ada)
    assert placed.status_code == 201
    order = placed.json()
    assert web.get(f"/orders/{order['id']}", headers=ada).json() == order
    assert web.get(f"/orders/{order['id']}", headers=bob).status_code == 404


def test_a_refusal_is_a_problem_that_programs_can_read(web: TestClient) -> None:
    order = {"customer": "Shop", "total": "1"}
    missing = web.post("/orders", json=order)
    assert (missing.status_code, missing.json()["code"]) == (401, "token_missing")
    lacking = web.post("/orders", json=order, headers=bearer("ada") | {"x-request-id": "request-1"})
    assert lacking.headers["content-type"] == "application/problem+json"
    assert lacking.json() == {
        "type": "urn:dominus:error:authorization",
        "title": "Forbidden",
        "status": 403,
        "detail": "the token lacks a scope: orders:write",
        "instance": "/orders",
        "code": "authorization",
        "request_id": "request-1",
    }


def test_a_guard_can_be_overridden(web: TestClient) -> None:
    app.dependency_overrides[require_jwt] = lambda: Principal("ada", scopes=frozenset({"orders:write"}))
    try:
        assert web.post("/orders", json={"customer": "Shop", "total": "1"}).json()["placed_by"] == "ada"
    finally:
        app.dependency_overrides.clear()
