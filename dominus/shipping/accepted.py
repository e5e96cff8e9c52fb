# ruff: noqa: ARG002 - the parameters are those of every coroutine
"""What logging a line returns: something to await that is over already, so that `await` costs next to nothing.

A coroutine would do its work only when it is awaited: with `gather` or in a task of its own, that is far from the call,
and the frame of the call site is gone.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any

__all__ = ["ACCEPTED", "DROPPED", "Logged", "Pause"]


class Logged(Coroutine[Any, Any, bool]):
    """Gives, when awaited, whether the line was taken. Awaiting it is not needed."""

    __slots__ = ("_is_taken",)

    def __init__(self, *, is_taken: bool) -> None:
        self._is_taken = is_taken

    def __await__(self) -> Generator[Any, Any, bool]:
        return self  # pyright: ignore[reportReturnType]  # ty: it has all that `await` asks of it

    def __iter__(self) -> Logged:
        return self

    def __next__(self) -> Any:
        raise StopIteration(self._is_taken)

    def send(self, value: Any, /) -> Any:
        """End, as a coroutine does that has nothing to wait for."""
        raise StopIteration(self._is_taken)

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        """Raise what is thrown in."""
        raise typ if isinstance(typ, BaseException) else (val or typ())

    def close(self) -> None:
        """Nothing is open."""


class Pause(Logged):
    """Lets the loop have one turn before it is over: lines come faster than they are shipped."""

    __slots__ = ("_has_paused",)

    def __init__(self) -> None:
        super().__init__(is_taken=True)
        self._has_paused = False

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any, /) -> Any:
        """Wait once."""
        if not self._has_paused:
            self._has_paused = True
            return None
        raise StopIteration(True)  # noqa: FBT003


ACCEPTED = Logged(is_taken=True)
DROPPED = Logged(is_taken=False)
