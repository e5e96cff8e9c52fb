"""Guards of FastAPI's routes, as dependencies and as decorators: who passes, who does not, and what FastAPI sees."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import jwt
import pytest
from conftest import MakeRig
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from fastapi_support import KEY, PSK, bearer, paths, serves, token, web
from forged_tokens import FOREIGN_KEY, FORGERIES, signed

from dominus import Dominus, ValidationError
from dominus.integrations.fastapi import (
    Principal,
    install,
    require_jwt,
    require_psk,
    require_scopes,
    user_client,
)
from dominus.testing import failure

User = Annotated[Principal, Depends(require_jwt)]


def said(principal: Principal) -> dict[str, Any]:
    return {
        "sub": principal.sub,
        "use": principal.use,
        "scopes": sorted(principal.scopes),
        "roles": sorted(principal.roles),
        "tenant": principal.tenant_id,
        "session": principal.session_id,
    }


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()

    @app.get("/me")
    async def me(principal: User) -> dict[str, Any]:
        return said(principal)

    @app.get("/both")
    def both(principal: Annotated[Principal, Depends(require_scopes("a", "b"))]) -> dict[str, Any]:
        return said(principal)

    @app.get("/either")
    def either(principal: Annotated[Principal, Depends(require_scopes("a", "b", any=True))]) -> str:
        return principal.sub

    @app.get("/import")
    async def take(principal: Annotated[Principal, Depends(require_psk)]) -> dict[str, Any]:
        return said(principal)

    @app.get("/visits")
    async def visits(user: Annotated[Dominus, Depends(user_client)]) -> int:
        return await user.redis.incr("visits")

    return app


# --- dependencies


async def test_a_valid_token_becomes_a_principal(make_rig: MakeRig, app: FastAPI) -> None:
    rig = make_rig(default=serves)
    install(app, rig.client)
    async with web(app) as client:
        plain = await client.get("/me", headers=bearer())
        assert plain.json() == {
            "sub": "ada", "use": "user", "scopes": [], "roles": [], "tenant": None, "session": None
        }  # fmt: skip
        given = {"scopes": ["b", "a"], "roles": ["editor"], "tenant_id": "t-1", "sid": "s-1"}
        full = await client.get("/me", headers=bearer(**given))
        assert full.json() == {
            "sub": "ada", "use": "user", "scopes": ["a", "b"], "roles": ["editor"], "tenant": "t-1", "session": "s-1"
        }  # fmt: skip
        odd = await client.get("/me", headers=bearer(scopes="a b", roles=[1], tenant_id=7, sid=""))
        assert odd.json()["scopes"] == odd.json()["roles"] == []
    assert paths(rig) == ["/api/warden/jwks"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {token()}"},
        {"authorization": token()},
        {"authorization": f"Bearer {token()} {token()}"},
        [("authorization", f"Bearer {token()}"), ("authorization", f"Bearer {token()}")],
    ],
    ids=lambda headers: str(headers)[:30],
)
async def test_without_one_bearer_token_it_is_401(make_rig: MakeRig, app: FastAPI, headers: Any) -> None:
    rig = make_rig(default=serves)
    install(app, rig.client)
    async with web(app) as client:
        for path in ("/me", "/both", "/import", "/visits"):
            answer = await client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")
            assert answer.headers["www-authenticate"] == "Bearer"
    assert paths(rig) == []


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_is_401(make_rig: MakeRig, app: FastAPI, name: str) -> None:
    install(app, make_rig(default=serves).client)
    claims = jwt.decode(token(), options={"verify_signature": False})
    forged = FORGERIES[name](KEY, "key", claims)
    async with web(app) as client:
        answer = await client.get("/me", headers=bearer(forged))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert forged not in answer.text


async def test_scopes_are_all_of_them_or_any(make_rig: MakeRig, app: FastAPI) -> None:
    install(app, make_rig(default=serves).client)
    async with web(app) as client:

        async def statuses(*scopes: str) -> tuple[int, int]:
            headers = bearer(scopes=list(scopes))
            both, either = (
                await client.get("/both", headers=headers),
                await client.get("/either", headers=headers),
            )
            return both.status_code, either.status_code

        assert await statuses() == (403, 403)
        assert await statuses("c") == (403, 403)
        assert await statuses("a") == (403, 200)
        assert await statuses("b", "a", "c") == (200, 200)
        assert await statuses("*") == (200, 200)
        refused = await client.get("/both", headers=bearer(scopes=["a"]))
        assert (refused.json()["code"], refused.json()["detail"]) == (
            "authorization",
            "the token lacks a scope: a and b",
        )


@pytest.mark.parametrize("scopes", [(), ([],), (["a", "b"],), ("",), (5,)])
def test_a_guard_that_guards_nothing_is_refused_when_it_is_made(scopes: Any) -> None:
    with pytest.raises(ValidationError, match="scopes"):
        require_scopes(*scopes)


async def test_a_psk_logs_in_once_in_five_seconds(make_rig: MakeRig, app: FastAPI) -> None:
    rig = make_rig(default=serves)
    install(app, rig.client)
    async with web(app) as client:
        answers = await asyncio.gather(*(client.get("/import", headers=bearer(PSK)) for _ in range(5)))
        assert [answer.json()["sub"] for answer in answers] == ["client-1"] * 5
        assert answers[0].json()["tenant"] == "t-1"
        assert paths(rig).count("/api/portal/auth/login-client") == 1
        await rig.clock.advance(5)
        await client.get("/import", headers=bearer(PSK))
        assert paths(rig).count("/api/portal/auth/login-client") == 2


async def test_a_closed_client_forgets_who_logged_in(make_rig: MakeRig, app: FastAPI) -> None:
    rig = make_rig(default=serves)
    install(app, rig.client)
    async with web(app) as client:
        for _ in range(2):
            await client.get("/import", headers=bearer(PSK))
            await rig.client.aclose()
    assert paths(rig).count("/api/portal/auth/login-client") == 2


async def test_a_withdrawn_psk_is_401_after_five_seconds(make_rig: MakeRig, app: FastAPI) -> None:
    rig = make_rig(default=serves)
    install(app, rig.client)
    async with web(app) as client:
        assert (await client.get("/import", headers=bearer(PSK))).status_code == 200
        rig.server.default = lambda request: failure(401, "the key is not known", code="login_failed")
        await rig.clock.advance(5)
        refused = await client.get("/import", headers=bearer(PSK))
        assert refused.status_code == 401
        assert PSK not in refused.text


async def test_who_guesses_keys_too_fast_is_told_to_wait(make_rig: MakeRig, app: FastAPI) -> None:
    rig = make_rig(default=failure(429, "too many", code="login_locked", headers={"retry-after": "40"}))
    install(app, rig.client)
    async with web(app) as client:
        answer = await client.get("/import", headers=bearer(PSK))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "40")


@pytest.mark.parametrize("psk", ["wrong-" * 8, "x" * 600, token()])
async def test_a_wrong_psk_is_401(make_rig: MakeRig, app: FastAPI, psk: str) -> None:
    rig = make_rig(default=serves)
    install(app, rig.client)
    async with web(app) as client:
        assert (await client.get("/import", headers=bearer(psk))).status_code == 401
    # The key of a caller is wrong, not the token of the service: no other one is minted for it.
    assert len(rig.server.mints) <= 1


async def test_a_psk_is_no_token(make_rig: MakeRig, app: FastAPI) -> None:
    install(app, make_rig(default=serves).client)
    async with web(app) as client:
        assert (await client.get("/me", headers=bearer(PSK))).status_code == 401


async def test_a_user_client_sends_the_token_of_whoever_calls(make_rig: MakeRig, app: FastAPI) -> None:
    rig = make_rig(default=serves)
    install(app, rig.client)
    given = token()
    async with web(app) as client:
        assert (await client.get("/visits", headers=bearer(given))).json() == 1
    assert rig.server.requests[-1].bearer == given


async def test_tests_of_an_application_override_a_guard_as_any_dependency(
    make_rig: MakeRig, app: FastAPI
) -> None:
    app.dependency_overrides[require_jwt] = lambda: Principal("test", scopes=frozenset({"a", "b"}))
    async with web(app) as client:
        assert (await client.get("/both")).json()["sub"] == "test"


# --- decorators


def decorated(dominus: Dominus) -> FastAPI:
    app = FastAPI()

    @app.get("/jwt/{number}")
    @dominus.fastapi.jwt
    async def by_token(number: int, claims: dict[str, Any], q: str = "none") -> dict[str, Any]:
        """Say who."""
        return {"number": number, "sub": claims["sub"], "q": q}

    @app.get("/sync")
    @dominus.fastapi.jwt
    def in_thread(claims: dict, request: Request) -> dict[str, Any]:
        return {
            "sub": claims["sub"],
            "path": request.url.path,
            "is_main": threading.current_thread() is threading.main_thread(),
        }

    @app.get("/plain")
    @dominus.fastapi.jwt
    async def without_claims() -> str:
        return "passed"

    @app.get("/psk")
    @dominus.fastapi.psk
    async def by_psk(client: dict) -> str:
        return client["sub"]

    @app.get("/scopes")
    @dominus.fastapi.scopes(["a", "b"])
    async def scoped(claims: dict) -> list[str]:
        return claims["scopes"]

    @app.get("/stacked")
    @dominus.fastapi.scopes(["a"])
    @dominus.fastapi.scopes(["b"])
    async def stacked(claims: dict) -> list[str]:
        return claims["scopes"]

    @app.get("/stream")
    @dominus.fastapi.jwt
    def stream(claims: dict) -> StreamingResponse:
        def lines() -> Iterator[str]:
            yield claims["sub"]

        return StreamingResponse(lines())

    return app


async def test_decorators_inject_the_claims(make_rig: MakeRig) -> None:
    app = decorated(make_rig(default=serves).client)
    async with web(app) as client:
        found = await client.get("/jwt/7?q=x", headers=bearer())
        assert found.json() == {"number": 7, "sub": "ada", "q": "x"}
        assert (await client.get("/jwt/7", headers=bearer())).json()["q"] == "none"
        assert (await client.get("/jwt/seven", headers=bearer())).status_code == 422
        assert (await client.get("/sync", headers=bearer())).json() == {
            "sub": "ada", "path": "/sync", "is_main": False
        }  # fmt: skip
        assert (await client.get("/plain", headers=bearer())).json() == "passed"
        assert (await client.get("/psk", headers=bearer(PSK))).json() == "client-1"
        assert (await client.get("/stream", headers=bearer())).text == "ada"


@pytest.mark.parametrize("path", ["/jwt/7", "/sync", "/plain", "/psk", "/scopes", "/stacked", "/stream"])
async def test_decorators_refuse_without_install_too(make_rig: MakeRig, path: str) -> None:
    app = decorated(make_rig(default=serves).client)
    async with web(app) as client:
        missing = await client.get(path)
        assert (missing.status_code, missing.json()) == (401, {"detail": "no bearer token was sent"})
        assert missing.headers["www-authenticate"] == "Bearer"
        for wrong in (token(exp=1), signed(FOREIGN_KEY, {"sub": "ada"}, {"kid": "key"}), "x"):
            assert (await client.get(path, headers=bearer(wrong))).status_code == 401
        # What a caller sends as a parameter of that name is never taken for the claims.
        forged = await client.get(path, params={"claims": '{"sub": "root"}', "dominus_principal": "root"})
        assert forged.status_code == 401


async def test_any_of_the_scopes_of_a_decorator_is_enough_and_each_decorator_counts(
    make_rig: MakeRig,
) -> None:
    app = decorated(make_rig(default=serves).client)
    async with web(app) as client:

        async def statuses(*scopes: str) -> list[int]:
            headers = bearer(scopes=list(scopes))
            return [(await client.get(path, headers=headers)).status_code for path in ("/scopes", "/stacked")]

        assert await statuses() == [403, 403]
        assert await statuses("b") == [200, 403]
        assert await statuses("a") == [200, 403]
        assert await statuses("a", "b") == [200, 200]


async def test_the_function_below_a_decorator_keeps_its_name_and_signature(make_rig: MakeRig) -> None:
    app = decorated(make_rig(default=serves).client)
    operation = app.openapi()["paths"]["/jwt/{number}"]["get"]
    assert operation["description"] == "Say who."
    assert operation["operationId"].startswith("by_token")
    assert [parameter["name"] for parameter in operation["parameters"]] == ["number", "q"]
    assert "requestBody" not in operation


async def test_who_calls_a_guarded_function_past_fastapi_is_refused(make_rig: MakeRig) -> None:
    client = make_rig(default=serves).client

    @client.fastapi.jwt
    async def route(claims: dict) -> str:
        return claims["sub"]

    for arguments in ({}, {"claims": {"sub": "root"}}, {"dominus_principal": {"sub": "root"}}):
        with pytest.raises(ValidationError, match="guarded"):
            await route(**arguments)
    assert await route.__wrapped__(claims={"sub": "test"}) == "test"


@pytest.mark.parametrize("wrong", ["orders:read", [], [""], lambda claims: claims])
def test_scopes_without_a_list_is_refused_when_the_program_is_read(make_rig: MakeRig, wrong: Any) -> None:
    with pytest.raises(ValidationError, match="scopes"):
        make_rig().client.fastapi.scopes(wrong)


@pytest.mark.parametrize("place", ["app", "router", "mounted"])
async def test_a_guard_above_the_decorator_of_its_route_stops_the_start(
    make_rig: MakeRig, place: str
) -> None:
    client = make_rig(default=serves).client
    app, inner, router = FastAPI(), FastAPI(), APIRouter()
    target = {"app": app, "router": router, "mounted": inner}[place]

    @client.fastapi.jwt
    @target.get("/open")
    async def route(claims: dict | None = None) -> str:
        return "open"

    app.include_router(router, prefix="/v1")
    app.mount("/inner", inner)
    client.fastapi.install(app)
    with pytest.raises(ValidationError, match="around its guard"):
        async with web(app, is_started=True):
            pass


# --- the rest of the surface


async def test_the_schemes_stand_in_the_openapi_document(make_rig: MakeRig, app: FastAPI) -> None:
    from openapi_spec_validator import validate

    document = app.openapi()
    validate(document)
    schemes = document["components"]["securitySchemes"]
    assert {name: (scheme["scheme"], scheme["bearerFormat"]) for name, scheme in schemes.items()} == {
        "DominusToken": ("bearer", "JWT"),
        "DominusKey": ("bearer", "PSK"),
    }
    assert document["paths"]["/both"]["get"]["security"] == [{"DominusToken": []}]
    assert document["paths"]["/import"]["get"]["security"] == [{"DominusKey": []}]


def test_a_websocket_is_guarded_too(make_rig: MakeRig) -> None:
    from starlette.websockets import WebSocketDisconnect

    app = FastAPI()

    @app.websocket("/live")
    async def live(socket: WebSocket, principal: User) -> None:
        await socket.accept()
        await socket.send_text(principal.sub)
        await socket.close()

    install(app, make_rig(default=serves).client, warm_up=False)
    with TestClient(app) as client:
        with client.websocket_connect("/live", headers=bearer()) as socket:
            assert socket.receive_text() == "ada"
        with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/live"):
            pass
        assert caught.value.code == 1008


@pytest.mark.parametrize("is_installed", [True, False])
async def test_a_check_that_could_not_be_made_is_503(
    make_rig: MakeRig, app: FastAPI, is_installed: bool
) -> None:
    rig = make_rig(default=failure(500, "secret-host:5432 is down"))
    if is_installed:
        install(app, rig.client)
    else:
        app = decorated(rig.client)
    async with web(app) as client:
        answer = await client.get("/me" if is_installed else "/plain", headers=bearer())
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "secret-host" not in answer.text


async def test_a_service_whose_own_key_is_wrong_blames_no_caller(make_rig: MakeRig, app: FastAPI) -> None:
    rig = make_rig(mints=(failure(401, "unknown key"),) * 4, default=serves)
    install(app, rig.client)
    async with web(app) as client:
        answer = await client.get("/import", headers=bearer(PSK))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "DOMINUS_TOKEN" not in answer.text
    assert "www-authenticate" not in answer.headers


async def test_a_handler_that_catches_errors_itself_goes_on_as_ever(make_rig: MakeRig) -> None:
    from dominus import NotFoundError

    rig = make_rig(failure(404, "no such secret", code="not_found"))
    app = FastAPI()
    install(app, rig.client)

    @app.get("/secret")
    async def secret() -> str:
        try:
            return await rig.client.secrets.get("K")
        except NotFoundError:
            raise HTTPException(404, "mine") from None

    async with web(app) as client:
        answer = await client.get("/secret")
    assert (answer.status_code, answer.json()) == (404, {"detail": "mine"})


def test_without_fastapi_the_error_says_how_to_install_it() -> None:
    code = """
import sys
sys.modules["fastapi"] = None
from dominus import dominus, ServiceError
for attempt in (lambda: dominus.fastapi, lambda: __import__("dominus.integrations.fastapi")):
    try:
        attempt()
    except ServiceError as error:
        print(error.code, "[fastapi]" in error.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["extra_missing True"] * 2, done.stderr


def test_neither_fastapi_nor_starlette_comes_with_the_client() -> None:
    code = "import sys; from dominus import Dominus; Dominus().auth; print({'fastapi', 'starlette'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"
