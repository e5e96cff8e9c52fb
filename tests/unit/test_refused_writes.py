"""What health knows of engines that are full."""

from __future__ import annotations

import asyncio

import pytest

from dominus.errors import DominusError, ServiceError
from dominus.orchestrator.handlers.refused_writes import SEEN_SECONDS, TRY_SECONDS, RefusedWrites

POSTGRES = ServiceError("x", code="disk_full", details={"engine": "postgres"})
REDIS = ServiceError("x", code="disk_full", details={"engine": "redis"})


class Rig:
    """A clock that tests move, and an engine that refuses what they say."""

    def __init__(self) -> None:
        self.time = 100.0
        self.failure: BaseException | None = None
        self.write_count = 0
        self.refused = RefusedWrites(lambda: self.time)

    async def write(self) -> None:
        self.write_count += 1
        if self.failure is not None:
            raise self.failure

    async def code(self, name: str = "postgres") -> str | None:
        return await self.refused.code(name, self.write)


async def test_an_engine_is_made_to_write_no_more_often_than_every_few_seconds() -> None:
    rig = Rig()
    rig.failure = POSTGRES
    assert [await rig.code() for _ in range(3)] == ["disk_full"] * 3
    assert rig.write_count == 1
    rig.failure = None
    rig.time += TRY_SECONDS
    assert [await rig.code() for _ in range(3)] == [None] * 3
    assert rig.write_count == 2


@pytest.mark.parametrize(
    ("error", "full", "code"),
    [
        (POSTGRES, "postgres", "disk_full"),
        (ServiceError("x", code="disk_full"), "postgres", "disk_full"),
        (REDIS, "redis", "disk_full"),
        (ServiceError("x", code="redis_full"), "redis", "redis_full"),
        (ServiceError("x", code="database_unavailable"), "", None),
    ],
)
async def test_what_a_caller_was_refused_is_told_for_a_while(
    error: DominusError, full: str, code: str | None
) -> None:
    rig = Rig()
    rig.refused.note(error)
    for name in ("postgres", "redis"):
        assert await rig.code(name) == (code if name == full else None)
    rig.time += SEEN_SECONDS
    assert [await rig.code("postgres"), await rig.code("redis")] == [None, None]


async def test_another_failure_of_the_write_is_not_about_space() -> None:
    rig = Rig()
    rig.failure = ServiceError("x", code="redis_refused")
    assert await rig.code("redis") is None


async def test_a_write_that_was_cut_off_is_tried_again_at_the_next_question() -> None:
    rig = Rig()
    rig.failure = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await rig.code()
    rig.failure = POSTGRES
    assert await rig.code() == "disk_full"
