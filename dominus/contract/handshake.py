"""The gateway: how a native connection says who it is, and the calls around it.

Two forms of handshake open a connection; their first four bytes tell them apart.

    published   length (u32, at most 8,192), token
                and no answer: the next bytes are the database's; a refusal is a closed connection
    ours        "DMG1", length (u16), JSON {"token", "target"?, "endpoint"?}
                answered by "DMG1", length (u16), JSON {"ok": true} or {"ok": false, "code", "message"}, and then the
                database's bytes

All numbers are big-endian. "DMG1" read as a number is far larger than any token.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

MAX_TOKEN_BYTES = 8192


MAX_FRAME_BYTES = 16_384
"""Of the JSON in our form, either way."""


MAGIC = b"DMG1"


HANDSHAKE_SECONDS = 5.0


DEFAULT_PORT = 3001


class BadHandshakeError(ValueError):
    """The bytes are no handshake."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client said first."""

    token: str
    target: str | None
    """None: the token's own."""
    endpoint: int
    """Which address of a target that has several, from 0."""
    is_published: bool
    """The published form: it expects no answer."""
    size: int
    """Bytes that the handshake took; what follows belongs to the database."""


def encode_hello(token: str, target: str | None = None, endpoint: int = 0) -> bytes:
    """Write our form of the handshake."""
    said: dict[str, Any] = {"token": token}
    if target is not None:
        said["target"] = target
    if endpoint:
        said["endpoint"] = endpoint
    return _frame(said)


def encode_published_hello(token: str) -> bytes:
    """Write the published form of the handshake."""
    raw = token.encode("ascii")
    if not 0 < len(raw) <= MAX_TOKEN_BYTES:
        raise BadHandshakeError(f"a token has 1 to {MAX_TOKEN_BYTES} bytes")
    return struct.pack(">I", len(raw)) + raw


def read_hello(buffer: bytes) -> Hello | None:
    """Read a handshake from what has arrived; None while it is not whole.

    Raises:
        BadHandshakeError: it can never become one.
    """
    if len(buffer) < 4:
        return None
    if buffer[:4] == MAGIC:
        return _read_own_hello(buffer)
    (length,) = struct.unpack_from(">I", buffer)
    if not 0 < length <= MAX_TOKEN_BYTES:
        raise BadHandshakeError("neither a token's length nor a known magic number")
    if len(buffer) < 4 + length:
        return None
    try:
        token = buffer[4 : 4 + length].decode("ascii")
    except UnicodeDecodeError:
        raise BadHandshakeError("the token is not ASCII") from None
    return Hello(token, None, 0, is_published=True, size=4 + length)


def _read_own_hello(buffer: bytes) -> Hello | None:
    found = _read_frame(buffer)
    if found is None:
        return None
    said, size = found
    token, target, endpoint = said.get("token"), said.get("target"), said.get("endpoint", 0)
    if not isinstance(token, str) or not token.isascii() or not 0 < len(token) <= MAX_TOKEN_BYTES:
        raise BadHandshakeError(f"the token has to be text of 1 to {MAX_TOKEN_BYTES} ASCII characters")
    if target is not None and not isinstance(target, str):
        raise BadHandshakeError("the target has to be text")
    if type(endpoint) is not int or not 0 <= endpoint < 1024:
        raise BadHandshakeError("the endpoint has to be a small number")
    return Hello(token, target, endpoint, is_published=False, size=size)


def encode_reply(code: str | None = None, message: str = "") -> bytes:
    """Write the gateway's answer; no code: the way is open."""
    return _frame({"ok": True} if code is None else {"ok": False, "code": code, "message": message})


@dataclass(frozen=True, slots=True)
class Reply:
    """The gateway's answer; an empty code means that the way is open."""

    code: str
    message: str
    size: int


def read_reply(buffer: bytes) -> Reply | None:
    """Read the gateway's answer; None while it is not whole.

    Raises:
        BadHandshakeError: the peer is no gateway.
    """
    if buffer[:4] != MAGIC[: len(buffer[:4])]:
        raise BadHandshakeError("the peer is no gateway of ours")
    found = _read_frame(buffer)
    if found is None:
        return None
    said, size = found
    if said.get("ok") is True:
        return Reply("", "", size)
    return Reply(str(said.get("code") or "refused"), str(said.get("message") or "refused"), size)


def _frame(said: dict[str, Any]) -> bytes:
    raw = to_json(said)
    if len(raw) > MAX_FRAME_BYTES:
        raise BadHandshakeError(f"a frame has at most {MAX_FRAME_BYTES} bytes")
    return MAGIC + struct.pack(">H", len(raw)) + raw


def _read_frame(buffer: bytes) -> tuple[dict[str, Any], int] | None:
    if len(buffer) < 6:
        return None
    (length,) = struct.unpack_from(">H", buffer, 4)
    if not 0 < length <= MAX_FRAME_BYTES:
        raise BadHandshakeError(f"a frame has 1 to {MAX_FRAME_BYTES} bytes")
    if len(buffer) < 6 + length:
        return None
    try:
        said = from_json(buffer[6 : 6 + length])
    except ValueError:
        raise BadHandshakeError("the frame is not JSON") from None
    if not isinstance(said, dict):
        raise BadHandshakeError("the frame is no JSON object")
    return said, 6 + length  # pyright: ignore[reportUnknownVariableType]
