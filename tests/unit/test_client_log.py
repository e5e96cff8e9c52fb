"""Debug lines of the client: one an attempt, with what support asks for and no secret."""

from __future__ import annotations

import logging
import re

import httpx
import pytest
from conftest import TOKEN, MakeRig

from dominus.errors import DominusError
from dominus.testing import failure, ok, raises

HIT = ok({"found": True, "value": "hunter2"}, headers={"X-Request-Id": "req-7"})


async def test_each_attempt_is_one_line_with_operation_number_status_time_and_request_id(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture
):
    rig = make_rig(failure(503), raises(httpx.ReadError("reset")), HIT)
    await rig.warm_up()
    with caplog.at_level(logging.DEBUG, logger="dominus.transport"):
        await rig.client.redis.get("k")
    lines = [record.getMessage() for record in caplog.records if "attempt" in record.getMessage()]
    shapes = [re.sub(r"\d+\.\d ms", "T ms", line) for line in lines]
    assert [line for line in shapes if "redis.get" in line] == [
        "redis.get attempt 1: 503 in T ms, request req-1",
        "redis.get attempt 2: DominusConnectionError in T ms, request -",
        "redis.get attempt 3: 200 in T ms, request req-7",
    ]
    assert {record.name for record in caplog.records} == {"dominus.transport"}
    assert caplog.text.count("is tried again in") == 2


async def test_no_line_shows_a_token_a_key_or_a_value(make_rig: MakeRig, caplog: pytest.LogCaptureFixture):
    rig = make_rig(failure(500), ok({"stored": True}), failure(404))
    with caplog.at_level(logging.DEBUG, logger="dominus"):
        await rig.client.redis.set("k-of-mine", "hunter2")
        with pytest.raises(DominusError):
            await rig.client.redis.get("k-of-mine")
    assert caplog.text
    for secret in (TOKEN, "token-1", "hunter2", "k-of-mine"):
        assert secret not in caplog.text


async def test_nothing_is_written_unless_it_is_asked_for(make_rig: MakeRig, caplog: pytest.LogCaptureFixture):
    rig = make_rig(HIT)
    with caplog.at_level(logging.INFO, logger="dominus"):
        await rig.client.redis.get("k")
    assert caplog.records == []
