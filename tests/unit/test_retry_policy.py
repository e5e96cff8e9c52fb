"""Users' own tenacity waits and conditions: they fit, and what is safe to repeat stays ours."""

from __future__ import annotations

import httpx
import pytest
import tenacity
import tenacity.asyncio
from conftest import MakeRig

from dominus import Dominus, RetryPolicy
from dominus.errors import (
    ConflictError,
    DominusConnectionError,
    DominusError,
    NotFoundError,
    ServiceError,
    ValidationError,
)
from dominus.testing import bad_gateway, failure, ok, raises

HIT = ok({"found": True, "value": 7})
STORED = ok({"stored": True})
RESET = raises(httpx.ReadError("reset"))


def with_policy(**parts: object) -> dict[str, object]:
    return {"retry": RetryPolicy(**parts)}  # type: ignore[arg-type]


async def test_a_wait_of_tenacity_takes_the_place_of_the_back_off(make_rig: MakeRig):
    rig = make_rig(failure(500), failure(500), HIT, client=with_policy(wait=tenacity.wait_fixed(2)))
    await rig.warm_up()
    assert await rig.client.redis.get("k") == 7
    assert rig.clock.slept == [2, 2]


async def test_waits_can_be_combined_and_see_the_number_of_the_attempt(make_rig: MakeRig):
    wait = tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(3)) + tenacity.wait_fixed(0.5)
    rig = make_rig(failure(500), failure(500), HIT, client=with_policy(wait=wait))
    await rig.warm_up()
    assert await rig.client.redis.get("k") == 7
    assert rig.clock.slept == [1.5, 3.5]


async def test_a_server_s_retry_after_is_the_least_wait(make_rig: MakeRig):
    busy = failure(503, headers={"Retry-After": "4"})
    rig = make_rig(busy, HIT, client=with_policy(wait=tenacity.wait_fixed(1)))
    await rig.warm_up()
    assert await rig.client.redis.get("k") == 7
    assert rig.clock.slept == [4]


async def test_a_wait_beyond_the_deadline_gives_the_error_at_once(make_rig: MakeRig):
    rig = make_rig(failure(500, "down"), client=with_policy(wait=tenacity.wait_fixed(60)))
    await rig.warm_up()
    with pytest.raises(ServiceError, match="down"):
        await rig.client.redis.get("k")
    assert rig.clock.slept == []


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_a_stop_takes_the_place_of_the_number_of_attempts(make_rig: MakeRig, count: int):
    rig = make_rig(default=failure(500), client=with_policy(stop=tenacity.stop_after_attempt(count)))
    await rig.warm_up()
    with pytest.raises(ServiceError) as caught:
        await rig.client.redis.get("k")
    assert len(rig.server.calls) == count
    assert caught.value.attempts == count


async def test_a_stop_can_allow_more_attempts_within_deadline_and_budget(make_rig: MakeRig):
    policy = with_policy(stop=tenacity.stop_after_attempt(8))
    rig = make_rig(*[failure(429)] * 7, HIT, client=policy)
    await rig.warm_up()
    assert await rig.client.redis.get("k") == 7
    rig.server.then(failure(500))
    rig.shared.budget.left = 0
    with pytest.raises(ServiceError, match="budget is empty"):
        await rig.client.redis.get("k")


async def test_a_stop_after_seconds_lives_on_the_client_s_clock(make_rig: MakeRig):
    policy = with_policy(stop=tenacity.stop_after_delay(5), wait=tenacity.wait_fixed(2))
    rig = make_rig(default=failure(429), client=policy)
    await rig.warm_up()
    with pytest.raises(DominusError):
        await rig.client.redis.get("k")
    assert rig.clock.slept == [2, 2, 2]


async def test_a_stop_before_a_delay_sees_the_coming_wait(make_rig: MakeRig):
    policy = with_policy(stop=tenacity.stop_before_delay(5), wait=tenacity.wait_fixed(2))
    rig = make_rig(default=failure(429), client=policy)
    await rig.warm_up()
    with pytest.raises(DominusError):
        await rig.client.redis.get("k")
    assert rig.clock.slept == [2, 2]


async def test_a_condition_sees_the_typed_error_and_can_forbid_a_retry(make_rig: MakeRig):
    condition = tenacity.retry_if_exception_type(DominusConnectionError)
    rig = make_rig(RESET, failure(500, "down"), client=with_policy(retry=condition))
    await rig.warm_up()
    with pytest.raises(ServiceError, match="down"):
        await rig.client.redis.get("k")
    assert len(rig.server.calls) == 2


async def test_an_asynchronous_condition_is_awaited(make_rig: MakeRig):
    async def never(_error: BaseException) -> bool:
        return False

    condition = tenacity.asyncio.retry_if_exception(never)
    rig = make_rig(failure(500, "down"), client=with_policy(retry=condition))
    await rig.warm_up()
    with pytest.raises(ServiceError, match="down"):
        await rig.client.redis.get("k")
    assert len(rig.server.calls) == 1


ALWAYS = {"retry": tenacity.retry_always, "stop": tenacity.stop_never, "wait": tenacity.wait_none()}


@pytest.mark.parametrize("broken", [RESET, failure(503), failure(429)], ids=str)
async def test_no_condition_makes_a_write_repeat_where_it_could_be_done_twice(
    make_rig: MakeRig, broken: object
):
    rig = make_rig(broken, STORED, is_foreign=True, client=with_policy(**ALWAYS))
    await rig.warm_up()
    with pytest.raises(DominusError):
        await rig.client.redis.set("k", 1)
    assert len(rig.server.calls) == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFoundError), (409, ConflictError), (400, ValidationError)]
)
async def test_no_condition_makes_a_final_answer_repeat(
    make_rig: MakeRig, status: int, kind: type[Exception]
):
    rig = make_rig(default=failure(status), client=with_policy(**ALWAYS))
    await rig.warm_up()
    with pytest.raises(kind):
        await rig.client.redis.get("k")
    assert len(rig.server.calls) == 1


async def test_a_start_is_waited_for_until_its_own_end(make_rig: MakeRig):
    policy = with_policy(stop=tenacity.stop_after_attempt(2))
    rig = make_rig(*[bad_gateway(503)] * 9, HIT, client=policy)
    assert await rig.client.redis.get("k") == 7


async def test_it_is_not_asked_when_nothing_fails(make_rig: MakeRig):
    def never_asked(_state: tenacity.RetryCallState) -> bool:
        raise AssertionError

    rig = make_rig(HIT, client=with_policy(wait=never_asked, stop=never_asked, retry=never_asked))
    assert await rig.client.redis.get("k") == 7


async def test_what_a_condition_raises_is_its_owner_s_own_error(make_rig: MakeRig):
    def broken(_state: tenacity.RetryCallState) -> bool:
        raise LookupError("condition")

    rig = make_rig(failure(500), client=with_policy(retry=broken))
    await rig.warm_up()
    with pytest.raises(LookupError, match="condition"):
        await rig.client.redis.get("k")


async def test_a_user_view_has_the_same_policy(make_rig: MakeRig):
    rig = make_rig(default=failure(500), client=with_policy(stop=tenacity.stop_after_attempt(1)))
    await rig.warm_up()
    with pytest.raises(ServiceError):
        await rig.client.as_user("a.b.c").redis.get("k")
    assert len(rig.server.calls) == 1


@pytest.mark.parametrize("part", ["wait", "stop", "retry"])
def test_what_cannot_be_asked_is_refused_when_it_is_made(part: str):
    with pytest.raises(ValidationError, match=part):
        RetryPolicy(**{part: 3})  # type: ignore[arg-type]


def test_a_bare_condition_is_refused_with_a_hint():
    with pytest.raises(ValidationError, match="RetryPolicy"):
        Dominus(retry=tenacity.stop_after_attempt(3))  # type: ignore[arg-type]


async def test_a_change_of_a_breaker_is_told_with_its_service(make_rig: MakeRig):
    told: list[tuple[str, str, str]] = []
    rig = make_rig(default=failure(500), client={"on_breaker_change": lambda *change: told.append(change)})
    await rig.warm_up()
    while not told:
        with pytest.raises(ServiceError):
            await rig.client.redis.get("k")
    rig.server.default = HIT
    assert await rig.client.redis.get("k") == 7
    assert told[:2] == [("redis", "closed", "open"), ("redis", "open", "half-open")]
    assert told[-1] == ("redis", "half-open", "closed")
