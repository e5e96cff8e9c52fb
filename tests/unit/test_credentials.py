"""PSK -> token: one mint however many wait, refreshed ahead, replaced after a 401; users' tokens never."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from conftest import TOKEN, MakeRig

from dominus.errors import AuthenticationError, DominusConnectionError, DominusTimeoutError, ServiceError
from dominus.testing import Recorded, Reply, failure, hang, ok, raises
from dominus.transport.credentials import Freshness, freshness

HIT = ok({"found": True, "value": 7})


@pytest.mark.parametrize(
    ("age", "lifetime", "expected"),
    [
        (0, 900, Freshness.FRESH),
        (719, 900, Freshness.FRESH),
        (720, 900, Freshness.AGING),
        (894, 900, Freshness.AGING),
        (895, 900, Freshness.EXPIRED),
        (47, 60, Freshness.FRESH),
        (56.9, 60, Freshness.AGING),
        (57, 60, Freshness.EXPIRED),
        (0, 0, Freshness.EXPIRED),
        (0, -5, Freshness.EXPIRED),
    ],
)
def test_how_long_a_token_is_good(age: float, lifetime: float, expected: Freshness):
    assert freshness(age, lifetime) is expected


async def test_a_hundred_concurrent_first_calls_make_one_mint(make_rig: MakeRig):
    rig = make_rig(default=HIT)
    values = await asyncio.gather(*(rig.client.redis.get("k") for _ in range(100)))
    assert values == [7] * 100
    assert len(rig.server.mints) == 1
    assert len(rig.server.calls) == 100
    assert {call.bearer for call in rig.server.calls} == {"token-1"}
    assert rig.client.stats()["mints"] == 1


async def test_the_mint_carries_the_psk_and_the_calls_never_do(make_rig: MakeRig):
    rig = make_rig(default=HIT)
    await rig.client.redis.get("k")
    assert rig.server.mints[0].bearer == TOKEN
    assert TOKEN not in str(rig.server.calls[0].headers)
    assert rig.server.mints[0].body == {"method": "auth.self", "params": {}}


async def test_project_and_environment_are_named_at_the_mint(make_rig: MakeRig):
    rig = make_rig(HIT, client={"project": "shop", "environment": "staging"})
    await rig.client.redis.get("k")
    assert rig.server.mints[0].headers["dominus-project"] == "shop"
    assert rig.server.mints[0].headers["dominus-environment"] == "staging"


async def test_a_token_is_refreshed_ahead_and_no_caller_waits(make_rig: MakeRig):
    rig = make_rig(default=HIT, auto=False, mints=(ok({"access_token": "old", "expires_in": 900}), hang()))
    await rig.client.redis.get("k")
    await rig.clock.advance(800)
    for _ in range(3):
        assert await rig.client.redis.get("k") == 7
    assert len(rig.server.mints) == 2
    assert [call.bearer for call in rig.server.calls] == ["old"] * 4


async def test_after_the_refresh_calls_use_the_new_token(make_rig: MakeRig):
    rig = make_rig(default=HIT)
    await rig.client.redis.get("k")
    await rig.clock.advance(800)
    await rig.client.redis.get("k")
    await rig.clock.advance(0)
    await rig.client.redis.get("k")
    assert [call.bearer for call in rig.server.calls] == ["token-1", "token-1", "token-2"]
    assert len(rig.server.mints) == 2


async def test_a_failed_refresh_is_logged_and_the_old_token_still_serves(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture
):
    rig = make_rig(
        default=HIT, mints=(ok({"access_token": "old", "expires_in": 900}), failure(403, "not now"))
    )
    await rig.client.redis.get("k")
    await rig.clock.advance(800)
    assert await rig.client.redis.get("k") == 7
    await rig.clock.advance(0)
    assert "refreshing the token ahead of its end failed" in caplog.text
    assert await rig.client.redis.get("k") == 7


async def test_an_expired_token_is_never_sent(make_rig: MakeRig):
    rig = make_rig(default=HIT)
    await rig.client.redis.get("k")
    await rig.clock.advance(896)
    await rig.client.redis.get("k")
    assert [call.bearer for call in rig.server.calls] == ["token-1", "token-2"]


async def test_a_401_mints_once_and_replays_once(make_rig: MakeRig):
    rig = make_rig(failure(401, "expired"), HIT)
    assert await rig.client.redis.get("k") == 7
    assert [call.bearer for call in rig.server.calls] == ["token-1", "token-2"]
    assert len(rig.server.mints) == 2


async def test_a_write_is_replayed_after_a_401_under_the_same_key(make_rig: MakeRig):
    rig = make_rig(failure(401, "expired"), ok({"stored": True}), is_foreign=True)
    assert await rig.client.redis.set("k", 1) is True
    first, second = rig.server.calls
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


async def test_a_second_401_is_the_answer(make_rig: MakeRig):
    rig = make_rig(default=failure(401, "go away"))
    with pytest.raises(AuthenticationError, match="go away"):
        await rig.client.redis.get("k")
    assert len(rig.server.calls) == 2
    assert len(rig.server.mints) == 2


async def test_fifty_concurrent_401s_make_one_mint(make_rig: MakeRig):
    def by_token(request: Recorded) -> Reply:
        return failure(401, "revoked") if request.bearer == "token-1" else HIT

    rig = make_rig(default=by_token)
    assert await asyncio.gather(*(rig.client.redis.get("k") for _ in range(50))) == [7] * 50
    assert len(rig.server.mints) == 2
    assert rig.client.stats()["mints"] == 2


async def test_a_401_that_comes_late_uses_the_token_that_is_new_already(make_rig: MakeRig):
    rig = make_rig(failure(401), HIT, HIT)
    await rig.client.redis.get("k")
    pipeline = await rig.client._caller.core.pipeline()
    assert await pipeline.credentials.replace("token-1") == "token-2"
    assert len(rig.server.mints) == 2


async def test_a_cancelled_first_waiter_does_not_cancel_the_mint_of_the_others(make_rig: MakeRig):
    release = asyncio.Event()
    rig = make_rig(default=HIT, auto=False)
    plain = rig.server.handle_async_request

    async def slow_mint(request: httpx.Request) -> httpx.Response:
        answer = await plain(request)
        if request.url.path.endswith("/mint"):
            await release.wait()
        return answer

    rig.server.handle_async_request = slow_mint  # type: ignore[method-assign]
    first = asyncio.create_task(rig.client.redis.get("k"))
    await rig.clock.advance(0)
    others = [asyncio.create_task(rig.client.redis.get("k")) for _ in range(3)]
    await rig.clock.advance(0)
    first.cancel()
    await rig.clock.advance(0)
    release.set()
    assert await asyncio.gather(*others) == [7, 7, 7]
    assert first.cancelled()
    assert len(rig.server.mints) == 1


async def test_the_deadline_of_the_first_waiter_does_not_end_the_mint(make_rig: MakeRig):
    rig = make_rig(default=HIT, auto=False, mints=(failure(503, headers={"Retry-After": "5"}),))
    with rig.client.deadline(1000):
        hasty = asyncio.create_task(rig.client.redis.get("k", timeout=2))
    await rig.clock.advance(0)
    patient = asyncio.create_task(rig.client.redis.get("k"))
    await rig.clock.advance(3)
    with pytest.raises(DominusTimeoutError, match="no answer within 2 s"):
        await hasty
    await rig.clock.advance(3)
    assert await patient == 7
    assert len(rig.server.mints) == 2
    assert float(rig.server.mints[0].headers["dominus-deadline-ms"]) > 10_000


async def test_when_the_mint_fails_all_waiters_get_an_error_of_their_own(make_rig: MakeRig):
    rig = make_rig(mints=(failure(401, "unknown token"),) * 4)
    outcomes = await asyncio.gather(*(rig.client.redis.get("k") for _ in range(5)), return_exceptions=True)
    assert all(isinstance(outcome, AuthenticationError) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 5
    assert len(rig.server.mints) == 1
    assert "DOMINUS_TOKEN" in str(outcomes[0])


async def test_a_wrong_psk_fails_at_once_and_is_not_tried_again(make_rig: MakeRig):
    rig = make_rig(mints=(failure(401, "unknown token"),) * 4)
    with pytest.raises(AuthenticationError):
        await rig.client.redis.get("k")
    assert rig.clock.slept == []
    assert len(rig.server.mints) == 1


async def test_after_a_failed_mint_the_next_call_mints_again(make_rig: MakeRig):
    rig = make_rig(HIT, mints=(failure(403, "not now"),))
    with pytest.raises(Exception, match="not now"):
        await rig.client.redis.get("k")
    assert await rig.client.redis.get("k") == 7


@pytest.mark.parametrize("answer", [{}, {"access_token": ""}, {"access_token": 5}, {"token": None}])
async def test_a_mint_without_a_token_is_no_dominus_server(make_rig: MakeRig, answer: dict[str, object]):
    rig = make_rig(mints=(ok(answer),))
    with pytest.raises(ServiceError) as caught:
        await rig.client.redis.get("k")
    assert caught.value.endpoint == "auth.self"
    assert rig.server.calls == []


@pytest.mark.parametrize("lifetime", [0, -5, 1, "900", None, True])
async def test_any_lifetime_that_a_server_names_is_survived(make_rig: MakeRig, lifetime: object):
    rig = make_rig(default=HIT, token_lifetime=lifetime)
    assert await rig.client.redis.get("k") == 7
    assert await rig.client.redis.get("k") == 7


async def test_a_server_that_calls_it_token_works_too(make_rig: MakeRig):
    rig = make_rig(HIT, mints=(ok({"token": "t0"}),))
    assert await rig.client.redis.get("k") == 7
    assert rig.server.calls[0].bearer == "t0"


async def test_a_user_s_token_is_sent_as_it_is_and_nothing_is_minted(make_rig: MakeRig):
    rig = make_rig(default=HIT)
    assert await rig.client.as_user("user-jwt").redis.get("k") == 7
    assert rig.server.mints == []
    assert rig.server.calls[0].bearer == "user-jwt"


async def test_a_refused_user_s_token_is_neither_replaced_nor_minted(make_rig: MakeRig):
    rig = make_rig(failure(401, "session ended"))
    with pytest.raises(AuthenticationError, match="session ended"):
        await rig.client.as_user("user-jwt").redis.get("k")
    assert rig.server.mints == []
    assert len(rig.server.calls) == 1


async def test_a_view_leaves_the_client_as_it_is(make_rig: MakeRig):
    rig = make_rig(default=HIT)
    user = rig.client.as_user("user-jwt")
    await rig.client.redis.get("k")
    await user.redis.get("k")
    await user.as_user("another").redis.get("k")
    assert [call.bearer for call in rig.server.calls] == ["token-1", "user-jwt", "another"]
    assert user.stats() == rig.client.stats()


@pytest.mark.parametrize("token", ["", None, "tok\nen", "tökén"])
def test_an_empty_session_never_becomes_the_service(make_rig: MakeRig, token: str):
    with pytest.raises(AuthenticationError):
        make_rig().client.as_user(token)


async def test_the_token_lies_sealed_in_memory(make_rig: MakeRig):
    rig = make_rig(HIT)
    await rig.client.redis.get("k")
    pipeline = await rig.client._caller.core.pipeline()
    latest = pipeline.credentials._shared.latest
    assert latest is not None
    assert b"token-1" not in latest.sealed
    assert str(latest.sealed) not in repr(latest)
    assert pipeline.box.open(latest.sealed) == b"token-1"


async def test_closing_while_a_mint_is_under_way_is_a_typed_error_for_the_waiters(make_rig: MakeRig):
    rig = make_rig(auto=False, mints=(hang(),))
    waiter = asyncio.create_task(rig.client.redis.get("k"))
    await rig.clock.advance(0)
    await rig.client.aclose()
    with pytest.raises(DominusConnectionError, match="closed"):
        await waiter


async def test_a_mint_that_is_not_reached_says_so(make_rig: MakeRig):
    rig = make_rig(mints=(raises(httpx.ConnectError("getaddrinfo failed")),) * 9)
    with pytest.raises(DominusConnectionError, match="getaddrinfo"):
        await rig.client.redis.get("k")
