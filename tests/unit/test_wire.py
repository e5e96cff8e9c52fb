"""Both dialects, every status, and answers that are none."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import respx
from conftest import TOKEN, URL, MakeRig

from dominus import Dominus
from dominus.contract.envelope import Dialect
from dominus.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    DominusConnectionError,
    DominusError,
    DominusTimeoutError,
    NotFoundError,
    RateLimitError,
    SecureTableError,
    ServiceError,
    ValidationError,
)
from dominus.testing import MovableClock, failure, ok, raises, raw

HIT = ok({"found": True, "value": 7})
GONE = ok({"deleted": True})


# --- dialects


async def test_it_starts_in_base64_and_moves_to_json_when_the_server_says_so(make_rig: MakeRig):
    rig = make_rig(default=HIT)
    await rig.client.redis.get("k")
    assert rig.server.mints[0].dialect is Dialect.BASE64
    assert rig.server.mints[0].content == base64.b64encode(b'{"method":"auth.self","params":{}}')
    assert rig.server.calls[0].dialect is Dialect.JSON
    assert json.loads(rig.server.calls[0].content) == {"logical_path": "k", "nudge": False}


async def test_a_foreign_server_hears_base64_for_ever_and_in_deletes_too(make_rig: MakeRig):
    rig = make_rig(HIT, GONE, ok({"deleted": True}), is_foreign=True)
    assert await rig.client.redis.get("k") == 7
    assert await rig.client.redis.delete("k") is True
    assert await rig.client.secrets.delete("K") is True
    assert {request.dialect for request in rig.server.requests} == {Dialect.BASE64}
    assert base64.b64decode(rig.server.calls[1].content) == b'{"logical_path":"k"}'
    assert all(request.headers["content-type"] == "text/plain" for request in rig.server.requests)


async def test_a_get_has_no_body_and_its_parameters_in_the_query(make_rig: MakeRig):
    rig = make_rig(ok({"status": "ok"}))
    await rig.client.health.ping()
    assert rig.server.calls[0].method == "GET"
    assert rig.server.calls[0].content == b""


async def test_an_open_operation_needs_no_token(make_rig: MakeRig):
    rig = make_rig(raw(b'{"status":"ok"}', headers={"content-type": "application/json"}))
    assert (await rig.client.health.check())["status"] == "ok"
    assert rig.server.mints == []
    assert "authorization" not in rig.server.calls[0].headers


async def test_a_base64_answer_to_a_json_question_is_read_as_what_it_is(make_rig: MakeRig):
    answer = base64.b64encode(b'{"success":true,"data":{"found":true,"value":"ja"}}')
    rig = make_rig(raw(answer, headers={"content-type": "application/json"}), raw(answer + b"\n"))
    assert await rig.client.redis.get("k") == "ja"
    assert await rig.client.redis.get("k") == "ja"


# --- every status of section 4


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, ValidationError),
        (422, None, ValidationError),
        (401, None, AuthenticationError),
        (403, None, AuthorizationError),
        (403, "secure_table", SecureTableError),
        (404, None, NotFoundError),
        (409, None, ConflictError),
        (429, None, RateLimitError),
        (500, None, ServiceError),
        (501, None, ServiceError),
        (502, None, ServiceError),
        (503, None, ServiceError),
        (504, None, DominusTimeoutError),
        (505, None, ServiceError),
        (405, None, DominusError),
        (408, None, DominusError),
        (413, None, DominusError),
        (418, None, DominusError),
    ],
)
@pytest.mark.parametrize("is_foreign", [False, True], ids=["ours", "foreign"])
async def test_each_status_is_one_class_and_carries_what_the_server_said(
    make_rig: MakeRig, status: int, code: str | None, kind: type[DominusError], is_foreign: bool
):
    answer = failure(
        status,
        "what happened",
        code=code,
        details={"field": "x"},
        headers={"X-Request-Id": "abc", "Retry-After": "99"},
    )
    rig = make_rig(default=answer, is_foreign=is_foreign)
    await rig.warm_up()
    with pytest.raises(DominusError) as caught:
        await rig.client.redis.get("k")
    error = caught.value
    assert type(error) is kind
    assert error.message == "what happened"
    assert error.status_code == status
    assert error.details == {"field": "x"}
    assert error.endpoint == "redis.get"
    assert error.request_id == "abc"
    assert error.attempts >= 1
    assert error.retryable is (status in {408, 425, 429, 500, 502, 503, 504})
    assert error.retry_after == 99
    assert error.code == (code or kind.default_code)
    assert repr(type(error).__name__)[1:-1] in repr(error)


async def test_network_errors_and_timeouts_are_also_the_built_in_ones(make_rig: MakeRig):
    rig = make_rig(default=raises(httpx.ConnectError("no route")))
    await rig.warm_up()
    with pytest.raises(ConnectionError) as lost:
        await rig.client.redis.get("k")
    assert type(lost.value) is DominusConnectionError
    rig = make_rig(default=failure(504))
    await rig.warm_up()
    with pytest.raises(TimeoutError) as slow:
        await rig.client.redis.get("k")
    assert type(slow.value) is DominusTimeoutError


async def test_an_error_without_a_body_names_the_status(make_rig: MakeRig):
    rig = make_rig(raw(b"", 404))
    with pytest.raises(NotFoundError, match="404"):
        await rig.client.redis.get("k")


@pytest.mark.parametrize("field", ["error", "detail", "message"])
async def test_the_text_of_a_foreign_error_is_found(make_rig: MakeRig, field: str):
    body = base64.b64encode(json.dumps({"success": False, field: "their words"}).encode())
    rig = make_rig(raw(body, 409), is_foreign=True)
    with pytest.raises(ConflictError, match="their words"):
        await rig.client.redis.get("k")


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": 5, "code": [], "details": null, "hint": {}, "request_id": 3}',
        b"[1]",
        b"7",
        b"\xff\xfe",
        b"{" * 5000,
    ],
)
async def test_an_error_whose_body_is_odd_is_still_its_class(make_rig: MakeRig, body: bytes):
    rig = make_rig(raw(body, 404))
    with pytest.raises(NotFoundError, match="404") as caught:
        await rig.client.redis.get("k")
    assert str(caught.value)


async def test_success_false_inside_a_200_is_an_error(make_rig: MakeRig):
    rig = make_rig(default=raw(b'{"success": false, "error": "inner trouble"}'))
    await rig.warm_up()
    with pytest.raises(ServiceError, match="inner trouble"):
        await rig.client.redis.get("k")


def test_errors_survive_pickling():
    error = RateLimitError("slow down", retry_after=3.0, endpoint="redis.get", attempts=2)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is RateLimitError
    assert copy.__dict__ == error.__dict__


# --- answers that are none


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (raw(b'{"success":true,"da'), "cut off"),
        (raw(base64.b64encode(b'{"success":true,"data":{}}')[:-7]), "cut off"),
        (raw(b""), "cut off"),
        (raw(b"OK"), "cut off"),
        (raw(b"\x00\x01\x02"), "cut off"),
        (raw(b'{"success":true,"data":{"found":true,"value":"\xff"}}'), "cut off"),
        (raw(gzip.compress(b'{"success":true,"data":{}}'), headers={"content-encoding": "gzip"}), "cut off"),
        (raw(b"<!DOCTYPE html><html></html>"), "web page"),
        (raw(b"\n  <html></html>"), "web page"),
        (raw(b"<html>not found</html>", 404), "web page"),
        (raw(b'{"status": "fine"}'), "no `success`"),
        (raw(b"[1, 2]"), "no object"),
        (raw(b"{}"), "no `success`"),
        (ok([1, 2]), "`data` is no object"),
        (ok("text"), "`data` is no object"),
        (ok({"value": 1}), "`data` has no found"),
        (raw(b'{"success":true,"data":null}'), "`data` is no object"),
        (raw(b'{"success":true}'), "`data` has no found"),
    ],
)
async def test_what_is_no_answer_is_a_service_error_that_names_the_endpoint(
    make_rig: MakeRig, answer: Any, words: str
):
    rig = make_rig(default=answer)
    with pytest.raises(ServiceError, match=words) as caught:
        await rig.client.redis.get("k")
    assert caught.value.endpoint == "redis.get"


async def test_a_web_page_is_not_asked_for_again_and_the_hint_names_the_setting(make_rig: MakeRig):
    rig = make_rig(raw(b"<html></html>"))
    with pytest.raises(ServiceError, match="DOMINUS_URL"):
        await rig.client.redis.get("k")
    assert len(rig.server.calls) == 1


async def test_a_server_without_a_mint_is_named_as_no_dominus_server(make_rig: MakeRig):
    rig = make_rig(mints=(raw(b"<html>nginx</html>", 404),))
    with pytest.raises(ServiceError, match="DOMINUS_URL"):
        await rig.client.redis.get("k")
    rig = make_rig(mints=(raw(b'{"detail":"Not Found"}', 404),))
    with pytest.raises(ServiceError, match="no mint"):
        await rig.client.redis.get("k")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
async def test_a_redirect_is_not_followed(make_rig: MakeRig, status: int):
    rig = make_rig(raw(b"", status, headers={"location": "https://elsewhere.test/"}))
    with pytest.raises(ServiceError, match="elsewhere") as caught:
        await rig.client.redis.get("k")
    assert caught.value.code == "redirect"
    assert len(rig.server.calls) == 1


async def test_an_answer_without_end_is_left_at_the_limit(make_rig: MakeRig):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b"x" * 65_536

    rig = make_rig(raw(endless()))
    with pytest.raises(ServiceError, match="larger than 67108864 bytes") as caught:
        await rig.client.redis.get("k")
    assert caught.value.code == "answer_too_large"
    assert sent <= 65 * 1024 * 1024
    assert len(rig.server.calls) == 1
    assert rig.breaker() == "closed"


@pytest.mark.parametrize("types", [[], "numeric", 5, {"a": 5}, {"a": "no-such-kind"}, {"b": "uuid"}, None])
async def test_type_hints_that_are_none_break_nothing(make_rig: MakeRig, types: Any):
    body = json.dumps({"success": True, "data": {"items": [{"a": "1"}], "total": 1}, "types": types}).encode()
    rig = make_rig(raw(body))
    assert (await rig.client.db.query("t"))["rows"] == [{"a": "1"}]


@pytest.mark.parametrize("items", [5, [1, 2], ["a"], None])
async def test_rows_that_are_none_are_named(make_rig: MakeRig, items: Any):
    rig = make_rig(ok({"items": items, "total": 1}, types={"a": "uuid"}))
    with pytest.raises(ServiceError, match="wrong shape"):
        await rig.client.db.query("t")


async def test_a_row_with_a_column_called_items_is_a_row(make_rig: MakeRig):
    rig = make_rig(ok({"id": "00000000-0000-0000-0000-000000000001", "items": [1, 2]}, types={"id": "uuid"}))
    row = await rig.client.db.insert("orders", {"items": [1, 2]})
    assert row["items"] == [1, 2]
    assert row["id"].int == 1


# --- any transport


async def test_mock_transport_works():
    def answer(request: httpx.Request) -> httpx.Response:
        is_mint = request.url.path.endswith("/mint")
        data = {"access_token": "t", "expires_in": 900} if is_mint else {"found": True, "value": [1]}
        return httpx.Response(200, json={"success": True, "data": data})

    async with Dominus(URL, TOKEN, transport=httpx.MockTransport(answer)) as client:
        assert await client.redis.get("k") == [1]


async def test_respx_works():
    router = respx.MockRouter()
    router.post("/api/warden/mint").respond(json={"success": True, "data": {"access_token": "t"}})
    route = router.post("/api/whisperer/get").respond(json={"success": True, "data": {"found": False}})
    async with Dominus(URL, TOKEN, transport=httpx.MockTransport(router.async_handler)) as client:
        assert await client.redis.get("k", default="none") == "none"
    assert route.called


async def test_a_transport_without_an_asynchronous_stream_is_a_programming_error():
    class Sync(httpx.SyncByteStream):
        def __iter__(self):
            yield b""

    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=Sync())

    async with Dominus(URL, TOKEN, transport=Broken(), clock=MovableClock(auto=True)) as client:
        with pytest.raises(TypeError, match="asynchronous stream"):
            await client.redis.get("k")
