"""How much JSON a request may hold: a parser holds up every other request of its worker while it runs.

`[[],[],...]` of 10 MiB has millions of values, which take seconds to make.
"""

from __future__ import annotations

import asyncio

from dominus.errors import ValidationError

__all__ = ["check_json"]

MAX_COST = 1_000_000
"""A value costs 1, a list or an object 4 more: about what it takes to make them. 100,000 rows of five columns pass."""
CONTAINER_COST = 4
SMALL_BYTES = MAX_COST // (CONTAINER_COST + 1)
"""Fewer bytes cannot cost too much."""
PART_BYTES = 256 * 1024


async def check_json(document: bytes) -> None:
    """Refuse a document that would take too long to parse; others get their turn while it is looked at.

    Raises:
        ValidationError: it holds too many values.
    """
    # What is counted first is also in texts; only when it is too much, these are left out.
    if (
        len(document) <= SMALL_BYTES
        or _cost(document) <= MAX_COST
        or await _cost_outside_texts(document) <= MAX_COST
    ):
        return
    raise ValidationError(
        f"the body holds too many JSON values: more than {MAX_COST:,}, where a list or object counts as "
        f"{CONTAINER_COST + 1}",
        code="too_many_values",
        hint="send less at once; db.bulk_insert streams any number of rows",
    )


def _cost(part: bytes) -> int:
    return part.count(b",") + CONTAINER_COST * (part.count(b"[") + part.count(b"{"))


async def _cost_outside_texts(document: bytes) -> int:
    cost = 0
    is_in_text = 0
    start = 0
    while start < len(document) and cost <= MAX_COST:
        await asyncio.sleep(0)
        end = start + PART_BYTES
        if document[end - 1 : end] == b"\\":
            # Not between a backslash and what it escapes: a run of them, and what comes after it, stay together.
            tail = document[end:]
            end += len(tail) - len(tail.lstrip(b"\\")) + 1
        part = document[start:end].replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = part.split(b'"')
        cost += _cost(b" ".join(pieces[is_in_text::2]))
        is_in_text = (is_in_text + len(pieces) - 1) % 2
        start = end
    return cost
