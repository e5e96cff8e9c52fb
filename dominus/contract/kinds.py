"""What kinds of operations there are. Free of pydantic, so that a client can be made without it."""

from __future__ import annotations

import enum

__all__ = ["Auth", "Retry"]


class Retry(enum.Enum):
    """Whether repeating an operation is safe."""

    READ = "read"
    """It changes nothing, or the same however often it is sent: repeat freely."""
    KEYED = "keyed"
    """A write that carries an idempotency key: repeat when the server keeps keys."""
    NEVER = "never"
    """Repeat only what never left this machine."""


class Auth(enum.Enum):
    """What the `Authorization` header of an operation carries."""

    TOKEN = "token"  # noqa: S105 - a name, not a secret
    """The service JWT, or the user's on `as_user`."""
    PSK = "psk"
    """The pre-shared key itself: the mint."""
    SESSION = "session"
    """A gateway session token, which opens nothing else."""
    NONE = "none"
