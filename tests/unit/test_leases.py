"""A lease and the store it is in: when that is another one, the holder knows it within two seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import MakeRig, Rig

from dominus.errors import LeaseLostError
from dominus.testing import Recorded, Reply, failure, hang, ok


@dataclass
class Store:
    """A server with locks in a store that can be exchanged."""

    epoch: str | None = "first"
    held: set[str] = field(default_factory=set)
    answers: dict[str, Reply] = field(default_factory=dict)
    """What is said instead, by the end of a path."""

    def __call__(self, request: Recorded) -> Reply:
        end = request.path.rpartition("/")[2]
        if end in self.answers:
            return self.answers[end]
        told = {} if self.epoch is None else {"epoch": self.epoch}
        if end == "epoch":
            return ok(told)
        name = request.body["logical_path"]
        if end == "acquire":
            self.held.add(name)
            return ok({"acquired": True, "fence": 7, **told})
        if end == "renew":
            return ok({"held": True, **told}) if name in self.held else ok({"held": False})
        is_held = name in self.held
        self.held.discard(name)
        return ok({"held": is_held})

    def come_back(self, *kept: str) -> None:
        """As Redis does after a restart."""
        self.epoch = f"{self.epoch} and another"
        self.held = set(kept)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def rig(make_rig: MakeRig, store: Store) -> Rig:
    return make_rig(default=store, auto=False)


def count(rig: Rig, end: str) -> int:
    return sum(call.path.endswith(f"lock/{end}") for call in rig.server.calls)


def others() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def test_a_lock_lost_with_its_store_is_told_within_two_seconds(
    rig: Rig, store: Store, caplog: pytest.LogCaptureFixture
):
    async with rig.client.redis.lock("job", ttl=3600) as lease:
        await rig.clock.advance(30)
        assert not lease.is_lost
        store.come_back()
        await rig.clock.advance(2)
        assert lease.is_lost
        with pytest.raises(LeaseLostError, match="job"):
            lease.check()
        await rig.clock.advance(4000)
    assert caplog.text.count("was lost while it was held") == 1


async def test_a_lock_that_its_new_store_still_has_goes_on(rig: Rig, store: Store):
    async with rig.client.redis.lock("job", ttl=3600) as lease:
        store.come_back("job")
        await rig.clock.advance(2)
        assert not lease.is_lost
        assert lease.epoch == store.epoch
        assert lease.left() > 3590
        await rig.clock.advance(60)
        assert count(rig, "renew") == 1, "once for a new epoch"


async def test_one_task_asks_once_a_second_for_all_leases(rig: Rig, store: Store):
    async with contextlib.AsyncExitStack() as stack:
        leases = [
            await stack.enter_async_context(rig.client.redis.lock(f"job-{number}", ttl=3600))
            for number in range(40)
        ]
        await rig.clock.advance(60)
        assert 58 <= count(rig, "epoch") <= 80
        assert count(rig, "renew") == 0
        store.come_back("job-3")
        await rig.clock.advance(2)
        assert [lease.name for lease in leases if not lease.is_lost] == ["job-3"]
        assert count(rig, "renew") == 40


async def test_nothing_runs_when_no_lock_is_held(rig: Rig, store: Store):
    async with rig.client.redis.lock("one", ttl=3600):
        async with rig.client.redis.lock("two", ttl=3600):
            await rig.clock.advance(3)
        await rig.clock.advance(3)
    assert others() == set()
    asked = count(rig, "epoch")
    await rig.clock.advance(600)
    assert count(rig, "epoch") == asked
    async with rig.client.redis.lock("three", ttl=3600) as lease:
        store.come_back()
        await rig.clock.advance(2)
        assert lease.is_lost
    assert others() == set()


async def test_the_watch_ends_with_the_last_lease_that_is_not_lost(rig: Rig, store: Store):
    async with rig.client.redis.lock("job", ttl=3600):
        store.come_back()
        await rig.clock.advance(2)
        asked = count(rig, "epoch")
        await rig.clock.advance(600)
        assert count(rig, "epoch") == asked


async def test_the_answer_about_one_lease_is_a_sign_for_the_others(rig: Rig, store: Store):
    store.answers["epoch"] = failure(404, "none")
    async with rig.client.redis.lock("old", ttl=3600) as old:
        await rig.clock.advance(5)
        store.come_back()
        async with rig.client.redis.lock("new", ttl=3600) as new:
            await rig.clock.advance(0)
            assert old.is_lost
            assert not new.is_lost


async def test_servers_that_disagree_cost_one_renewal_a_second(rig: Rig, store: Store):
    numbers = iter(range(10_000))

    def another(request: Recorded) -> Reply:
        store.epoch = f"epoch-{next(numbers)}"
        return store(request)

    rig.server.default = another
    async with rig.client.redis.lock("one", ttl=3600) as one, rig.client.redis.lock("two", ttl=3600) as two:
        await rig.clock.advance(60)
        assert not one.is_lost
        assert not two.is_lost
    assert count(rig, "renew") <= 2 * 80


async def test_a_server_without_epochs_is_not_asked(rig: Rig, store: Store):
    store.epoch = None
    async with rig.client.redis.lock("job", ttl=60) as lease:
        await rig.clock.advance(90)
        assert not lease.is_lost
        assert lease.epoch is None
    assert count(rig, "epoch") == 0
    assert count(rig, "renew") == 4


async def test_a_server_that_begins_to_tell_epochs_is_asked_from_then_on(rig: Rig, store: Store):
    store.epoch = None
    async with rig.client.redis.lock("job", ttl=60) as lease:
        store.epoch = "first"
        await rig.clock.advance(25)
        assert lease.epoch == "first"
        store.come_back()
        await rig.clock.advance(2)
        assert lease.is_lost


@pytest.mark.parametrize(
    "answer", [failure(503, "away"), failure(404, "none"), hang()], ids=["503", "404", "hang"]
)
async def test_an_ask_that_fails_loses_nothing_and_the_next_one_tells(rig: Rig, store: Store, answer: Reply):
    async with rig.client.redis.lock("job", ttl=3600) as lease:
        store.answers["epoch"] = answer
        await rig.clock.advance(8)
        assert not lease.is_lost
        store.answers.clear()
        store.come_back()
        await rig.clock.advance(40)
        assert lease.is_lost


async def test_after_a_failure_the_caller_of_another_lease_asks(rig: Rig, store: Store):
    def without_users(request: Recorded) -> Reply:
        if request.path.endswith("epoch") and request.bearer == "user":
            return failure(401, "expired")
        return store(request)

    rig.server.default = without_users
    user = rig.client.as_user("user")
    async with user.redis.lock("one", ttl=3600) as one, rig.client.redis.lock("two", ttl=3600):
        store.come_back()
        await rig.clock.advance(3)
        assert one.is_lost


async def test_a_renewal_that_comes_after_the_block_says_nothing(
    rig: Rig, store: Store, caplog: pytest.LogCaptureFixture
):
    async with rig.client.redis.lock("job", ttl=3600):
        store.come_back()
        store.answers["renew"] = hang()
        await rig.clock.advance(1.5)
        assert count(rig, "renew") == 1
    await rig.clock.advance(10)
    assert "was lost" not in caplog.text
    assert others() == set()


def test_no_task_is_left_when_the_loop_ends_under_a_held_lock(
    make_rig: Callable[..., Rig], store: Store, caplog: pytest.LogCaptureFixture
):
    async def main() -> None:
        rig = make_rig(default=store, auto=False)
        await rig.client.redis.lock("job", ttl=3600).__aenter__()
        await rig.clock.advance(5)

    asyncio.run(main())
    assert caplog.text == ""


async def test_closing_the_client_ends_the_watch(rig: Rig):
    async with rig.client.redis.lock("job", ttl=3600):
        await rig.clock.advance(3)
        await rig.client.aclose()
        names = {task.get_name() for task in others()}
        assert names == {"dominus-lease-job"}
