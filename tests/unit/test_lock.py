"""`redis.lock`: held by one, renewed while held, released by its owner only, and honest when it is lost."""

from __future__ import annotations

import asyncio

import pytest
from conftest import MakeRig

from dominus.errors import (
    ConflictError,
    DominusTimeoutError,
    LeaseLostError,
    LockNotAcquiredError,
    ValidationError,
)
from dominus.testing import failure, hang, ok

GRANT = ok({"acquired": True, "fence": 12})
TAKEN = ok({"acquired": False})
HELD = ok({"held": True})
LOST = ok({"held": False})


def paths(rig: object) -> list[str]:
    return [call.path.rpartition("/")[2] for call in rig.server.calls]  # type: ignore[attr-defined]


async def test_it_is_taken_and_given_back_by_one_owner_with_a_fence(make_rig: MakeRig):
    rig = make_rig(GRANT, HELD, auto=False)
    async with rig.client.redis.lock("job", ttl=60) as lease:
        assert lease.fence == 12
        lease.check()
    acquire, release = rig.server.calls
    assert acquire.body["owner"] == release.body["owner"] == lease.owner
    assert acquire.body["logical_path"] == "job"
    assert len(lease.owner) >= 32


async def test_every_lock_has_its_own_random_owner(make_rig: MakeRig):
    rig = make_rig(GRANT, HELD, GRANT, HELD, auto=False)
    for _ in range(2):
        async with rig.client.redis.lock("job"):
            pass
    assert rig.server.calls[0].body["owner"] != rig.server.calls[2].body["owner"]


async def test_held_by_another_is_a_typed_conflict_and_the_block_does_not_run(make_rig: MakeRig):
    rig = make_rig(TAKEN, auto=False)
    with pytest.raises(LockNotAcquiredError, match="job") as caught:
        async with rig.client.redis.lock("job"):
            pytest.fail("the block ran")
    assert isinstance(caught.value, ConflictError)
    assert caught.value.status_code == 409
    assert len(rig.server.calls) == 1


async def test_wait_polls_until_the_holder_is_gone(make_rig: MakeRig):
    rig = make_rig(TAKEN, TAKEN, GRANT, HELD)
    async with rig.client.redis.lock("job", wait=5) as lease:
        rig.clock._auto = False
    assert lease.fence == 12
    assert rig.clock.slept[:2] == [0.25, 0.25]


async def test_wait_ends(make_rig: MakeRig):
    rig = make_rig(default=TAKEN)
    began = rig.clock.monotonic()
    with pytest.raises(LockNotAcquiredError):
        async with rig.client.redis.lock("job", wait=1):
            pass
    assert rig.clock.monotonic() - began == pytest.approx(1.0)


async def test_it_is_renewed_every_third_of_its_life(make_rig: MakeRig):
    rig = make_rig(GRANT, default=HELD, auto=False)
    async with rig.client.redis.lock("job", ttl=60):
        await rig.clock.advance(19)
        assert paths(rig) == ["acquire"] or len(rig.server.calls) == 1
        await rig.clock.advance(2)
        assert len(rig.server.calls) == 2
        await rig.clock.advance(60)
        assert len(rig.server.calls) == 5
    assert {call.body["owner"] for call in rig.server.calls} == {rig.server.calls[0].body["owner"]}


async def test_after_the_block_nothing_renews_any_more(make_rig: MakeRig):
    rig = make_rig(GRANT, default=HELD, auto=False)
    async with rig.client.redis.lock("job", ttl=60):
        pass
    count = len(rig.server.calls)
    await rig.clock.advance(600)
    assert len(rig.server.calls) == count
    assert rig.clock.sleeper_count == 0


async def test_a_lock_that_another_took_over_is_known_to_be_lost(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture
):
    rig = make_rig(GRANT, LOST, LOST, auto=False)
    async with rig.client.redis.lock("job", ttl=60) as lease:
        lease.check()
        await rig.clock.advance(21)
        assert lease.is_lost
        with pytest.raises(LeaseLostError, match="job"):
            lease.check()
    assert "was lost while it was held" in caplog.text


async def test_one_failed_renewal_is_no_loss(make_rig: MakeRig, caplog: pytest.LogCaptureFixture):
    rig = make_rig(GRANT, failure(404, "hiccup"), HELD, HELD, auto=False)
    async with rig.client.redis.lock("job", ttl=60) as lease:
        await rig.clock.advance(45)
        assert not lease.is_lost
    assert "renewing the lock 'job' failed" in caplog.text


async def test_when_no_renewal_works_the_lease_is_lost_before_another_may_take_it(make_rig: MakeRig):
    rig = make_rig(GRANT, default=failure(404, "away"), auto=False)
    async with rig.client.redis.lock("job", ttl=60) as lease:
        await rig.clock.advance(41)
        assert not lease.is_lost
        await rig.clock.advance(19)
        assert lease.is_lost


async def test_a_renewal_that_hangs_does_not_hide_the_loss(make_rig: MakeRig):
    rig = make_rig(GRANT, default=hang(), auto=False)
    async with rig.client.redis.lock("job", ttl=60) as lease:
        await rig.clock.advance(61)
        assert lease.is_lost
        rig.server.default = HELD


async def test_the_lock_is_released_when_the_block_fails_or_is_cancelled(make_rig: MakeRig):
    rig = make_rig(GRANT, HELD, GRANT, HELD, auto=False)
    with pytest.raises(KeyError):
        async with rig.client.redis.lock("job"):
            raise KeyError("work")
    assert len(rig.server.calls) == 2

    async def work() -> None:
        async with rig.client.redis.lock("job"):
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(work())
    await rig.clock.advance(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await rig.clock.advance(0)
    assert len(rig.server.calls) == 4


async def test_a_release_that_fails_does_not_spoil_the_result(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture
):
    rig = make_rig(GRANT, failure(403, "no"), auto=False)
    async with rig.client.redis.lock("job"):
        pass
    assert "releasing the lock 'job' failed" in caplog.text


@pytest.mark.parametrize(
    ("given", "place"),
    [({"ttl": 59}, "ttl"), ({"ttl": 86_401}, "ttl"), ({"owner": "short"}, "owner"), ({"name": ""}, "key")],
)
async def test_bad_arguments_are_refused_before_anything_is_sent(
    make_rig: MakeRig, given: dict[str, object], place: str
):
    rig = make_rig(auto=False)
    with pytest.raises(ValidationError, match=place):
        async with rig.client.redis.lock(**{"name": "job", **given}):  # type: ignore[arg-type]
            pass
    assert rig.server.calls == []


async def test_one_object_is_never_held_twice_at_a_time(make_rig: MakeRig):
    rig = make_rig(default=GRANT, auto=False)
    lock = rig.client.redis.lock("job", wait=60)
    rig.server.then(GRANT, HELD, GRANT, HELD)
    for _ in range(2):
        async with lock:
            with pytest.raises(LockNotAcquiredError, match="this very object"):
                async with lock:
                    pytest.fail("the block ran")
    assert len(rig.server.calls) == 4


async def test_a_lock_whose_entering_was_cancelled_is_given_back(make_rig: MakeRig):
    rig = make_rig(hang(), HELD, auto=False)

    async def work() -> None:
        async with rig.client.redis.lock("job"):
            pytest.fail("the block ran")

    task = asyncio.create_task(work())
    await rig.clock.advance(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert paths(rig)[-1] == "release"
    assert rig.server.calls[0].body["owner"] == rig.server.calls[1].body["owner"]


async def test_a_lock_whose_grant_came_too_late_is_given_back(make_rig: MakeRig):
    rig = make_rig(hang(), HELD, auto=False)

    async def work() -> None:
        with rig.client.deadline(2.0):
            async with rig.client.redis.lock("job"):
                pytest.fail("the block ran")

    task = asyncio.create_task(work())
    await rig.clock.advance(3)
    with pytest.raises(DominusTimeoutError):
        await task
    assert paths(rig) == ["acquire", "release"]


async def test_a_deadline_that_has_passed_keeps_no_lock_from_being_renewed_or_released(make_rig: MakeRig):
    rig = make_rig(GRANT, default=HELD, auto=False)
    with rig.client.deadline(2.0):
        async with rig.client.redis.lock("job", ttl=60) as lease:
            await rig.clock.advance(100)
            assert not lease.is_lost
            assert len(rig.server.calls) == 6
    assert paths(rig)[-1] == "release"
    assert len(rig.server.calls) == 7
