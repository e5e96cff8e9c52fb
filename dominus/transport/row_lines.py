"""Rows that a server sends line by line: read as they come, however many."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

from pydantic_core import from_json

from dominus.contract.values import restore_rows
from dominus.errors import DominusConnectionError, DominusError, DominusTimeoutError, error_from_status
from dominus.transport.carriers.base import OpenAnswer
from dominus.transport.clock import Clock
from dominus.transport.deadline import block_deadline
from dominus.transport.decode import wrong_shape
from dominus.transport.failure import Failure

__all__ = ["rows_of"]


async def rows_of(
    answer: OpenAnswer, endpoint: str, seconds: float, clock: Clock
) -> AsyncGenerator[list[dict[str, Any]]]:
    """Yield the rows of an answer in parts, as they arrive; the answer is closed in the end.

    Args:
        answer: the lines.
        endpoint: how errors name it.
        seconds: how long the next part may take.
        clock: what that is measured with.

    Raises:
        DominusError: the server says why there is no more.
        DominusConnectionError: it broke off.
        DominusTimeoutError: nothing came for too long, or the deadline of the block has passed.
    """
    try:
        types: dict[str, str] | None = None
        async with contextlib.aclosing(_lines(answer.chunks, endpoint, seconds, clock)) as lines:
            async for line in lines:
                found = _parsed(line, endpoint)
                if isinstance(found, list) and types is not None:
                    rows = cast("list[dict[str, Any]]", found)
                    restore_rows(rows, types)
                    yield rows
                    continue
                facts = cast("dict[str, Any]", found if isinstance(found, dict) else {})
                if types is None and isinstance(facts.get("types"), dict):
                    types = cast("dict[str, str]", facts["types"])
                elif facts.get("end") is True:
                    return
                else:
                    raise _said(facts, endpoint)
        raise DominusConnectionError("the rows broke off before their end", endpoint=endpoint)
    finally:
        await answer.aclose()


async def _lines(
    chunks: AsyncIterator[bytes], endpoint: str, seconds: float, clock: Clock
) -> AsyncGenerator[bytes]:
    begun: list[bytes] = []
    while (chunk := await _next(chunks, endpoint, seconds, clock)) is not None:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield b"".join([*begun, line]) if begun else line
            begun.clear()
        if rest:
            begun.append(rest)


async def _next(chunks: AsyncIterator[bytes], endpoint: str, seconds: float, clock: Clock) -> bytes | None:
    left = block_deadline()
    limit = seconds if left is None else min(seconds, left)
    scope = clock.timeout(max(limit, 0.0))
    try:
        async with scope:
            return await anext(chunks, None)
    except Failure as failure:
        raise failure.error from failure.__cause__
    except TimeoutError as error:
        if isinstance(error, DominusError) or not scope.expired():
            raise
        raise DominusTimeoutError(f"no more rows within {limit:.3g} s", endpoint=endpoint) from None


def _parsed(line: bytes, endpoint: str) -> Any:
    try:
        return from_json(line)
    except ValueError:
        raise wrong_shape(endpoint, "a line is no JSON") from None


def _said(line: dict[str, Any], endpoint: str) -> DominusError:
    facts = line.get("failure")
    if not isinstance(facts, dict):
        return wrong_shape(endpoint, "a line is neither rows nor an end")
    known = cast("dict[str, Any]", facts)
    return error_from_status(
        int(line.get("status") or 500),
        str(known.get("error")),
        code=known.get("code"),
        details=known.get("details"),
        hint=known.get("hint"),
        endpoint=endpoint,
        request_id=known.get("request_id"),
    )
