"""Whether and when an attempt is repeated: the pure decision, and the loop over a scripted server."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from datetime import UTC, datetime

import httpx
import pytest
from conftest import MakeRig
from retry_rules import Again, Stop, decide

from dominus.contract.kinds import Retry
from dominus.errors import (
    AuthenticationError,
    ConflictError,
    DominusConnectionError,
    DominusTimeoutError,
    NotFoundError,
    RateLimitError,
    ServiceError,
    error_from_status,
)
from dominus.testing import failure, hang, ok, raises, raw
from dominus.transport.failure import Failure, parse_retry_after
from dominus.transport.retry import Facts, Policy

POLICY = Policy()
HIT = ok({"found": True, "value": 7})
STORED = ok({"stored": True})


def facts(**changes: object) -> Facts:
    usual: dict[str, object] = {
        "retry": Retry.READ,
        "keeps_keys": True,
        "is_replayable": True,
        "left": 30.0,
        "patience": 0.0,
    }
    return Facts(**{**usual, **changes})  # type: ignore[arg-type]


def status(code: int, **changes: object) -> Failure:
    retry_after = changes.pop("retry_after", None)
    error = error_from_status(code, "it failed", retry_after=retry_after)
    return Failure(error, **changes)  # type: ignore[arg-type]


NEVER_LEFT = Failure(DominusConnectionError("refused"), never_left=True)
BROKE = Failure(DominusConnectionError("reset"))
TIMED_OUT = Failure(DominusTimeoutError("slow"))
CUT_OFF = Failure(ServiceError("cut off", status_code=502))
YES, NO = True, False


@pytest.mark.parametrize(
    ("failed", "given", "is_repeated"),
    [
        # What never left is repeated whatever it is; what may have arrived only when that is safe.
        (NEVER_LEFT, facts(retry=Retry.READ), YES),
        (NEVER_LEFT, facts(retry=Retry.KEYED, keeps_keys=False), YES),
        (NEVER_LEFT, facts(retry=Retry.NEVER), YES),
        (BROKE, facts(retry=Retry.READ), YES),
        (BROKE, facts(retry=Retry.KEYED), YES),
        (BROKE, facts(retry=Retry.KEYED, keeps_keys=False), NO),
        (BROKE, facts(retry=Retry.NEVER), NO),
        (TIMED_OUT, facts(), YES),
        (TIMED_OUT, facts(retry=Retry.NEVER), NO),
        (CUT_OFF, facts(), YES),
        (CUT_OFF, facts(retry=Retry.KEYED, keeps_keys=False), NO),
        # The statuses of the architecture, and no other.
        *[(status(code), facts(), YES) for code in (408, 425, 429, 500, 502, 503, 504)],
        *[
            (status(code), facts(), NO)
            for code in (400, 401, 403, 404, 405, 409, 410, 413, 418, 422, 501, 505)
        ],
        *[(status(code), facts(retry=Retry.KEYED, keeps_keys=False), NO) for code in (429, 500, 503)],
        *[(status(code), facts(retry=Retry.NEVER), NO) for code in (429, 500, 503)],
        # Four attempts in all.
        (status(503), (facts(), 3), YES),
        (status(503), (facts(), 4), NO),
        (NEVER_LEFT, (facts(), 4), NO),
        # Never past the deadline.
        (status(503), facts(left=0.01), NO),
        (status(503, retry_after=31.0), facts(), NO),
        (status(503, retry_after=29.0), facts(), YES),
        # Rows of an iterator that was read are gone, even where nothing arrived.
        (NEVER_LEFT, facts(is_replayable=False), NO),
        (Failure(DominusConnectionError("certificate"), never_left=True, is_final=True), facts(), NO),
        # A cold start has its own end instead of the number of attempts.
        (status(503, is_cold_sign=True), (facts(patience=10.0), 40), YES),
        (status(503, is_cold_sign=True), (facts(patience=0.0), 40), NO),
        (status(401, is_cold_sign=True, retry_after=1.0), facts(patience=10.0), YES),
        (status(401, is_cold_sign=True, retry_after=1.0), facts(patience=0.0), NO),
        (status(503, is_cold_sign=True), facts(retry=Retry.NEVER, patience=10.0), NO),
    ],
)
def test_the_decision_table(failed: Failure, given: Facts | tuple[Facts, int], is_repeated: bool):
    known, attempt = given if isinstance(given, tuple) else (given, 1)
    assert isinstance(decide(failed, known, POLICY, attempt=attempt), Again if is_repeated else Stop)


@pytest.mark.parametrize(
    ("attempt", "ceiling"), [(1, 0.05), (2, 0.1), (3, 0.2), (7, 3.2), (8, 5.0), (500, 5.0)]
)
def test_back_off_is_full_jitter_up_to_a_doubling_ceiling(attempt: int, ceiling: float):
    policy = Policy(max_attempts=1000)
    for jitter in (0.0, 0.5, 1.0):
        step = decide(status(503), facts(), policy, attempt=attempt, jitter=jitter)
        assert isinstance(step, Again)
        assert step.after == pytest.approx(jitter * ceiling)


def test_retry_after_is_a_floor_for_the_back_off():
    step = decide(status(429, retry_after=7.0), facts(), POLICY)
    assert step == Again(7.0, is_charged=True)


def test_a_cold_start_charges_no_budget_and_an_ordinary_failure_does():
    cold = decide(status(503, is_cold_sign=True), facts(patience=60.0), POLICY)
    warm = decide(status(503, is_cold_sign=True), facts(patience=0.0), POLICY)
    assert isinstance(cold, Again)
    assert not cold.is_charged
    assert isinstance(warm, Again)
    assert warm.is_charged


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("0", 0.0),
        ("-3", 0.0),
        ("999999999", 86_400.0),
        ("soon", None),
        ("", None),
        (None, None),
        ("nan", None),
    ],
)
def test_retry_after_in_seconds(header: str | None, seconds: float | None):
    assert parse_retry_after(header) == seconds


def test_retry_after_as_a_date():
    in_a_minute = email.utils.format_datetime(datetime.fromtimestamp(time.time() + 60, UTC), usegmt=True)
    assert parse_retry_after(in_a_minute) == pytest.approx(60, abs=2)
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


async def test_a_read_is_tried_four_times_with_growing_pauses(make_rig: MakeRig):
    rig = make_rig(default=failure(500, "broken"))
    await rig.warm_up()
    rig.shared.random = lambda: 1.0
    with pytest.raises(ServiceError, match="broken") as caught:
        await rig.client.redis.get("k")
    assert len(rig.server.calls) == 4
    assert rig.clock.slept == pytest.approx([0.05, 0.1, 0.2])
    assert caught.value.attempts == 4
    assert "attempts=4" in str(caught.value)
    assert caught.value.endpoint == "redis.get"


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
async def test_a_retryable_status_is_repeated_until_it_works(make_rig: MakeRig, code: int):
    rig = make_rig(failure(code), HIT)
    await rig.warm_up()
    assert await rig.client.redis.get("k") == 7
    assert rig.client.stats()["retries"] == 1


@pytest.mark.parametrize(
    ("code", "kind"), [(404, NotFoundError), (409, ConflictError), (401, AuthenticationError)]
)
async def test_a_final_status_is_not_repeated(make_rig: MakeRig, code: int, kind: type[Exception]):
    rig = make_rig(default=failure(code))
    await rig.warm_up()
    with pytest.raises(kind):
        await rig.client.redis.get("k")
    assert rig.client.stats()["retries"] == 0


async def test_retry_after_of_the_server_is_slept(make_rig: MakeRig):
    rig = make_rig(failure(429, headers={"Retry-After": "3"}), HIT)
    await rig.warm_up()
    assert await rig.client.redis.get("k") == 7
    assert rig.clock.slept == [3.0]


async def test_a_retry_after_beyond_the_deadline_gives_the_error_at_once(make_rig: MakeRig):
    rig = make_rig(failure(429, headers={"Retry-After": "3"}))
    await rig.warm_up()
    with pytest.raises(RateLimitError) as caught:
        await rig.client.redis.get("k", timeout=2.0)
    assert caught.value.retry_after == 3.0
    assert rig.clock.slept == []


@pytest.mark.parametrize(
    "broken",
    [
        raises(httpx.ConnectError("refused")),
        raises(httpx.ReadError("reset")),
        raises(httpx.ReadTimeout("slow")),
        raises(httpx.RemoteProtocolError("hung up")),
        raises(OSError("reset")),
        raises(TimeoutError("slow")),
        raw(b"eyJ"),
        raw(b""),
    ],
    ids=["connect", "read", "timeout", "protocol", "os", "builtin-timeout", "truncated", "empty"],
)
async def test_broken_connections_and_answers_are_repeated(make_rig: MakeRig, broken: object):
    rig = make_rig(broken, HIT)
    await rig.warm_up()
    assert await rig.client.redis.get("k") == 7


async def test_a_keyed_write_carries_one_key_on_all_attempts_and_another_call_has_another(make_rig: MakeRig):
    rig = make_rig(failure(503), raises(httpx.ReadError("reset")), STORED, STORED)
    await rig.warm_up()
    await rig.client.redis.set("k", 1)
    await rig.client.redis.set("k", 1)
    keys = [call.headers["idempotency-key"] for call in rig.server.calls]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert keys[0][14] == "7"


async def test_reads_carry_no_idempotency_key(make_rig: MakeRig):
    rig = make_rig(HIT)
    await rig.client.redis.get("k")
    assert "idempotency-key" not in rig.server.calls[0].headers


@pytest.mark.parametrize(
    "broken",
    [failure(503), raises(httpx.ReadError("reset")), raises(httpx.ReadTimeout("slow")), raw(b"")],
    ids=str,
)
async def test_a_write_is_never_sent_twice_to_a_server_that_keeps_no_keys(make_rig: MakeRig, broken: object):
    rig = make_rig(broken, STORED, is_foreign=True)
    await rig.warm_up()
    with pytest.raises((ServiceError, DominusConnectionError, DominusTimeoutError)):
        await rig.client.redis.set("k", 1)
    assert len(rig.server.calls) == 1


async def test_a_write_that_never_left_is_repeated_on_any_server(make_rig: MakeRig):
    rig = make_rig(raises(httpx.ConnectError("refused")), STORED, is_foreign=True)
    await rig.warm_up()
    assert await rig.client.redis.set("k", 1) is True
    assert len(rig.server.calls) == 2


async def test_an_empty_budget_gives_the_error_at_once_and_says_so(make_rig: MakeRig):
    rig = make_rig(default=failure(500))
    await rig.warm_up()
    rig.shared.budget.left = 13.0
    with pytest.raises(ServiceError, match="retry budget is empty"):
        await rig.client.redis.get("k")
    assert len(rig.server.calls) == 1


async def test_a_cancelled_call_stops_trying(make_rig: MakeRig):
    rig = make_rig(hang(), auto=False)
    await rig.warm_up()
    task = asyncio.create_task(rig.client.redis.get("k"))
    await rig.clock.advance(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(rig.server.calls) == 1


async def test_an_error_keeps_the_cause_that_the_wire_gave(make_rig: MakeRig):
    rig = make_rig(default=raises(httpx.ReadError("reset by peer")))
    await rig.warm_up()
    with pytest.raises(DominusConnectionError) as caught:
        await rig.client.redis.get("k")
    assert isinstance(caught.value.__cause__, httpx.ReadError)
    assert isinstance(caught.value, ConnectionError)


def test_jitter_is_random():
    from dominus.transport.shared import Shared

    assert Shared.__dataclass_fields__["random"].default is random.random
