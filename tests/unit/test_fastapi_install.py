"""`install(app)`: errors as problem+json, the id of a request on its way, and the lifespan around the app's own."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import MakeRig
from fastapi import BackgroundTasks, Depends, FastAPI, Response
from fastapi_support import bearer, paths, serves, web

from dominus import Dominus, NotFoundError, ValidationError, dominus, errors
from dominus.integrations.fastapi import Principal, install, require_jwt
from dominus.integrations.problems import problem_of, status_of
from dominus.testing import failure, hang, ok, raw
from dominus.transport.request_id import current_request_id, is_request_id

KINDS = [
    kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.DominusError)
]

require_principal: Any = Depends(require_jwt)


def raising(error: Exception, client: Dominus) -> FastAPI:
    app = FastAPI()
    install(app, client)

    @app.get("/fails")
    async def fails() -> None:
        raise error

    return app


# --- problems


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_each_error_becomes_its_status_and_a_problem(
    make_rig: MakeRig, kind: type[errors.DominusError]
) -> None:
    error = kind("what happened", hint="what to do", details={"inner": "secret-1"}, retry_after=1.2)
    async with web(raising(error, make_rig().client)) as client:
        answer = await client.get("/fails?token=secret-2", headers={"x-request-id": "req-7"})
    expected = error.status_code or (503 if isinstance(error, ConnectionError) else 500)
    assert answer.status_code == expected
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["instance"], body["code"]) == (expected, "/fails", error.code)
    assert (body["type"], body["request_id"]) == (f"urn:dominus:error:{error.code}", "req-7")
    assert body["title"]
    assert ("retry-after" in answer.headers) == (expected in (429, 503) and error.retryable)
    if expected < 500:
        assert (body["detail"], body["hint"]) == ("what happened", "what to do")
    else:
        # Of what is not the caller's fault the caller is told nothing more.
        assert body["detail"] != "what happened"
        assert "hint" not in body
    assert "secret" not in answer.text


async def test_what_callers_are_not_told_is_in_the_log(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig(default=failure(500, "disk full on db-7", code="disk_full"))
    app = FastAPI()
    install(app, rig.client)

    @app.get("/fails")
    async def fails() -> Any:
        return await rig.client.redis.get("k")

    with caplog.at_level(logging.ERROR, "dominus.fastapi"):
        async with web(app) as client:
            answer = await client.get("/fails", headers={"x-request-id": "req-7"})
    assert (answer.status_code, answer.json()["code"]) == (500, "disk_full")
    assert "db-7" not in answer.text
    (line,) = [record for record in caplog.records if record.name == "dominus.fastapi"]
    assert "req-7" in line.getMessage()
    assert "disk full on db-7" in line.getMessage()


@pytest.mark.parametrize(
    "client",
    [
        Dominus(),
        Dominus("http://127.0.0.1:9"),
        Dominus("http://127.0.0.1:9", "short"),
        Dominus("http://127.0.0.1:9", "x" * 43, timeout=-1),
    ],
    ids=["no url", "no token", "short token", "bad setting"],
)
async def test_wrong_settings_are_no_fault_of_the_callers(client: Dominus) -> None:
    app = FastAPI()
    install(app, client)

    @app.get("/fails")
    async def fails() -> Any:
        return await client.redis.get("k")

    async with web(app) as caller:
        answer = await caller.get("/fails")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "DOMINUS" not in answer.text
    with pytest.raises(errors.DominusError, match="DOMINUS"):
        async with web(app, is_started=True):
            pass


def test_a_status_that_is_none_of_http_is_500() -> None:
    for status in (None, 0, 200, 302, 600):
        error = errors.DominusError("m", status_code=status)
        assert status_of(error) == 500
    assert problem_of(errors.DominusError("m"), 499)["title"] == "Error"


async def test_answers_of_the_application_itself_are_left_alone(make_rig: MakeRig) -> None:
    app = raising(NotFoundError("none"), make_rig().client)
    async with web(app) as client:
        assert (await client.get("/nothing")).json() == {"detail": "Not Found"}
        assert (await client.get("/fails")).json()["title"] == "Not Found"


# --- the id of a request


async def test_the_id_of_a_request_goes_with_its_calls_and_comes_back(make_rig: MakeRig) -> None:
    rig = make_rig(default=ok({"found": True, "value": 1}))
    app = FastAPI()
    install(app, rig.client)
    later: list[str | None] = []

    @app.get("/calls")
    async def calls(background: BackgroundTasks) -> Any:
        background.add_task(lambda: later.append(current_request_id()))
        return await asyncio.gather(*(rig.client.redis.get("k") for _ in range(3)))

    @app.get("/sync")
    def sync() -> str | None:
        return current_request_id()

    async with web(app) as client:
        answers = await asyncio.gather(
            *(client.get("/calls", headers={"x-request-id": f"req-{number}"}) for number in range(3))
        )
        assert [answer.headers["x-request-id"] for answer in answers] == ["req-0", "req-1", "req-2"]
        assert (await client.get("/sync", headers={"x-request-id": "req-9"})).json() == "req-9"
    sent = [request.headers.get("x-request-id") for request in rig.server.calls]
    assert sorted(sent) == sorted(["req-0", "req-1", "req-2"] * 3)
    # What serves all of them carries the id of none.
    assert ["x-request-id" in request.headers for request in rig.server.mints] == [False]
    assert sorted(filter(None, later)) == ["req-0", "req-1", "req-2"]
    assert current_request_id() is None


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a;b", "a_b", "-", "caf\u00e9", "<script>"])
async def test_an_id_that_servers_do_not_take_is_replaced(make_rig: MakeRig, given: str) -> None:
    app = raising(NotFoundError("none"), make_rig().client)
    async with web(app) as client:
        answer = await client.get("/fails", headers={"x-request-id": given.encode()})
    named = answer.headers["x-request-id"]
    assert named != given
    assert is_request_id(named)
    assert answer.json()["request_id"] == named


async def test_an_id_of_the_applications_own_is_kept(make_rig: MakeRig) -> None:
    app = FastAPI()
    install(app, make_rig().client)

    @app.get("/own")
    async def own(response: Response) -> None:
        response.headers["x-request-id"] = "own"

    async with web(app) as client:
        assert (await client.get("/own")).headers.get_list("x-request-id") == ["own"]


async def test_what_is_not_served_for_a_request_carries_no_id(make_rig: MakeRig) -> None:
    rig = make_rig(default=ok({"found": False}))
    await rig.client.redis.get("k")
    assert "x-request-id" not in rig.server.requests[-1].headers


# --- the lifespan


async def test_the_lifespan_warms_up_around_the_applications_own_and_closes(make_rig: MakeRig) -> None:
    rig = make_rig(default=serves)
    told: list[Any] = []

    @contextlib.asynccontextmanager
    async def own(_: FastAPI) -> AsyncIterator[dict[str, int]]:
        told.append(paths(rig))
        yield {"answer": 42}
        told.append(rig.server.is_closed)

    app = FastAPI(lifespan=own)
    install(app, rig.client)
    async with app.router.lifespan_context(app) as state:
        assert state == {"answer": 42}
        told.append("serves")
    assert told == [["/api/warden/mint", "/api/health/warmup", "/api/warden/jwks"], "serves", False]
    assert rig.client._caller.core._shared is None


async def test_the_first_request_after_the_start_asks_for_no_keys(make_rig: MakeRig) -> None:
    rig = make_rig(default=serves)
    app = FastAPI()
    install(app, rig.client, close=False)

    @app.get("/me")
    @rig.client.fastapi.jwt
    async def me(claims: dict[str, Any]) -> Any:
        return claims["sub"]

    async with web(app, is_started=True) as client:
        before = len(paths(rig))
        assert (await client.get("/me", headers=bearer())).json() == "ada"
        assert len(paths(rig)) == before


async def test_a_server_that_is_away_does_not_stop_the_start(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    for away in (hang(), raw(b"no", 502), failure(403, "not yours")):
        rig = make_rig(default=away)
        app = FastAPI()
        install(app, rig.client)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "dominus.fastapi"):
            if away == hang():
                started = asyncio.create_task(_started(app))
                for _ in range(200):
                    await asyncio.sleep(0)
                await rig.clock.advance(6)
                await asyncio.wait_for(started, 10)
            else:
                await _started(app)
        assert "warming up failed" in caplog.text


async def _started(app: FastAPI) -> None:
    async with app.router.lifespan_context(app):
        pass


async def test_a_key_that_the_server_does_not_know_stops_the_start(make_rig: MakeRig) -> None:
    rig = make_rig(mints=(failure(401, "unknown key"),) * 4, default=serves)
    app = FastAPI()
    install(app, rig.client)
    with pytest.raises(errors.AuthenticationError):
        await _started(app)


async def test_both_can_be_left_out(make_rig: MakeRig) -> None:
    rig = make_rig(default=serves)
    app = FastAPI()
    install(app, rig.client, warm_up=False, close=False)
    await _started(app)
    assert paths(rig) == []
    assert not rig.server.is_closed


def test_installing_twice_is_refused(make_rig: MakeRig) -> None:
    app = FastAPI()
    install(app, make_rig().client)
    with pytest.raises(ValidationError, match="already"):
        install(app, make_rig().client)


async def test_without_a_client_it_is_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def claims(token: str) -> dict[str, Any]:
        asked.append(token)
        return {"sub": "ada"}

    monkeypatch.setattr(dominus.fastapi, "claims_of_token", claims)
    for is_installed in (True, False):
        app = FastAPI()
        if is_installed:
            install(app, warm_up=False)

        @app.get("/me")
        async def me(principal: Principal = require_principal) -> str:
            return principal.sub

        async with web(app) as client:
            assert (await client.get("/me", headers=bearer("a.b.c"))).json() == "ada"
    assert asked == ["a.b.c"] * 2


async def test_a_mounted_application_verifies_with_the_client_of_the_outer_one(make_rig: MakeRig) -> None:
    inner, outer = FastAPI(), FastAPI()

    @inner.get("/me")
    async def me(principal: Principal = require_principal) -> str:
        return principal.sub

    outer.mount("/inner", inner)
    install(outer, make_rig(default=serves).client)
    async with web(outer) as client:
        assert (await client.get("/inner/me", headers=bearer())).json() == "ada"
        # Its own exception handlers are not those of the outer one: the guards refuse by themselves.
        assert (await client.get("/inner/me")).status_code == 401
