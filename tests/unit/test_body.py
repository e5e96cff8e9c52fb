"""Reading a request's body: what stands still is given up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dominus import DominusError
from dominus.orchestrator.http import body as module
from dominus.orchestrator.http.body import BodyReader


async def test_a_body_that_stands_still_is_a_408(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    parts = [{"type": "http.request", "body": b'{"a', "more_body": True}]

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(DominusError) as caught:
        await BodyReader(receive, None, 100).whole()
    assert (caught.value.status_code, caught.value.code) == (408, "body_stalled")


async def test_a_restriction_only_lowers_the_limit():
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 60, "more_body": False}

    reader = BodyReader(receive, None, 100)
    reader.restrict(1000)
    assert len(await reader.whole()) == 60
    reader = BodyReader(receive, None, 100)
    reader.restrict(50)
    with pytest.raises(DominusError) as caught:
        await reader.whole()
    assert caught.value.status_code == 413
