"""The id of the request that a program serves: the calls made for it carry it, so that one search finds both logs."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from contextvars import ContextVar

__all__ = ["current_request_id", "is_request_id", "serving"]

_CURRENT: ContextVar[str | None] = ContextVar("dominus_request_id", default=None)
MAX_LENGTH = 64


def current_request_id() -> str | None:
    """Return the id of the request that is served now, or None."""
    return _CURRENT.get()


def is_request_id(text: str) -> bool:
    """Return whether an orchestrator takes it as one: 1 to 64 letters, digits and dashes of ASCII."""
    return len(text) <= MAX_LENGTH and text.isascii() and text.replace("-", "").isalnum()


@contextlib.contextmanager
def serving(request_id: str) -> Generator[None]:
    """Send this id with every call of the block, and of the tasks that it begins."""
    mark = _CURRENT.set(request_id)
    try:
        yield
    finally:
        _CURRENT.reset(mark)
