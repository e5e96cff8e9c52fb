"""`stale_if_error`: the last known value of a secret, when the orchestrator is away."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
from conftest import MakeRig

from dominus.crypto import SecretBox
from dominus.errors import DominusConnectionError, DominusError, NotFoundError
from dominus.testing import failure, hang, ok, raises
from dominus.transport.stale_cache import StaleCache

SECRET = ok({"secret": {"key": "K", "value": "v1"}})
AWAY = raises(httpx.ConnectError("refused"))


async def test_the_last_known_value_is_used_and_said_so(make_rig: MakeRig, caplog: pytest.LogCaptureFixture):
    rig = make_rig(SECRET, default=AWAY)
    assert await rig.client.secrets.get("K", stale_if_error=3600) == "v1"
    await rig.clock.advance(60)
    assert await rig.client.secrets.get("K", stale_if_error=3600) == "v1"
    assert "secret 'K': the orchestrator is away" in caplog.text
    assert "60 s ago" in caplog.text
    assert rig.client.stats()["cache_hits"] == 1


@pytest.mark.parametrize(
    "answer", [AWAY, failure(500), failure(503), failure(504), raises(httpx.ReadTimeout("slow"))], ids=str
)
async def test_every_way_of_being_away_counts(make_rig: MakeRig, answer: object):
    rig = make_rig(SECRET, default=answer)
    await rig.client.secrets.get("K", stale_if_error=3600)
    assert await rig.client.secrets.get("K", stale_if_error=3600) == "v1"


async def test_with_an_open_breaker_too(make_rig: MakeRig):
    rig = make_rig(SECRET)
    await rig.client.secrets.get("K", stale_if_error=3600)
    await rig.open_breaker("secrets")
    began = rig.clock.monotonic()
    assert await rig.client.secrets.get("K", stale_if_error=3600) == "v1"
    assert rig.clock.monotonic() == began
    assert len(rig.server.calls) == 1


@pytest.mark.parametrize("answer", [failure(403), failure(401), failure(400)], ids=str)
async def test_an_answer_is_no_absence(make_rig: MakeRig, answer: object):
    rig = make_rig(SECRET, default=answer)
    await rig.client.secrets.get("K", stale_if_error=3600)
    with pytest.raises(DominusError):
        await rig.client.secrets.get("K", stale_if_error=3600)


async def test_too_old_a_value_is_not_used(make_rig: MakeRig):
    rig = make_rig(SECRET, default=AWAY)
    await rig.client.secrets.get("K", stale_if_error=100)
    await rig.clock.advance(101)
    with pytest.raises(DominusConnectionError):
        await rig.client.secrets.get("K", stale_if_error=100)


async def test_reading_a_stale_value_does_not_make_it_younger(make_rig: MakeRig):
    rig = make_rig(SECRET, default=AWAY)
    await rig.client.secrets.get("K", stale_if_error=100)
    for _ in range(3):
        await rig.clock.advance(30)
        assert await rig.client.secrets.get("K", stale_if_error=100) == "v1"
    await rig.clock.advance(30)
    with pytest.raises(DominusError):
        await rig.client.secrets.get("K", stale_if_error=100)


async def test_a_reader_who_did_not_ask_gets_the_error_and_nothing_was_kept_for_him(make_rig: MakeRig):
    rig = make_rig(SECRET, default=AWAY)
    await rig.client.secrets.get("K")
    with pytest.raises(DominusConnectionError):
        await rig.client.secrets.get("K", stale_if_error=3600)


async def test_a_deleted_secret_is_forgotten(make_rig: MakeRig):
    rig = make_rig(SECRET, failure(404, "no such secret"), default=AWAY)
    await rig.client.secrets.get("K", stale_if_error=3600)
    with pytest.raises(NotFoundError):
        await rig.client.secrets.get("K", stale_if_error=3600)
    with pytest.raises(DominusConnectionError):
        await rig.client.secrets.get("K", stale_if_error=3600)


async def test_default_is_for_missing_secrets_not_for_absent_servers(make_rig: MakeRig):
    rig = make_rig(default=AWAY)
    await rig.warm_up()
    with pytest.raises(DominusConnectionError):
        await rig.client.secrets.get("K", default="fallback", stale_if_error=3600)
    rig.server.default = failure(404)
    await rig.clock.advance(31)
    assert await rig.client.secrets.get("K", default="fallback", stale_if_error=3600) == "fallback"
    assert await rig.client.secrets.get("K", None) is None


async def test_a_reader_with_a_value_at_hand_waits_five_seconds_and_no_longer(make_rig: MakeRig):
    rig = make_rig(SECRET, default=hang(), auto=False)
    await rig.client.secrets.get("K", stale_if_error=3600)
    reader = asyncio.create_task(rig.client.secrets.get("K", stale_if_error=3600))
    await rig.clock.advance(4.9)
    assert not reader.done()
    await rig.clock.advance(0.2)
    assert await reader == "v1"


async def test_versions_and_users_do_not_share_values(make_rig: MakeRig):
    rig = make_rig(SECRET, default=AWAY)
    await rig.client.secrets.get("K", stale_if_error=3600)
    with pytest.raises(DominusConnectionError):
        await rig.client.secrets.get("K", version=1, stale_if_error=3600)
    await rig.clock.advance(31)
    with pytest.raises(DominusError):
        await rig.client.as_user("user-jwt").secrets.get("K", stale_if_error=3600)


async def test_values_lie_sealed_in_memory(make_rig: MakeRig):
    rig = make_rig(ok({"secret": {"key": "K", "value": "plain-text-of-it"}}))
    await rig.client.secrets.get("K", stale_if_error=3600)
    assert b"plain-text" not in repr(rig.shared.cache._entries).encode()
    assert len(rig.shared.cache._entries) == 1


def test_the_cache_is_bounded_and_forgets_the_longest_unused():
    cache, box = StaleCache(max_entries=3), SecretBox("p" * 43, "memory")
    for name in "abc":
        cache.put(name, b"1", time.monotonic(), box)
    assert cache.get("a", 1000, time.monotonic(), box) is not None
    cache.put("d", b"1", time.monotonic(), box)
    found = {name: cache.get(name, 1000, time.monotonic(), box) is not None for name in "abcd"}
    assert found == {"a": True, "b": False, "c": True, "d": True}
