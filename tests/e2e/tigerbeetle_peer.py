"""A peer for the native TigerBeetle client: it checks that messages arrive whole, and evicts whoever asks anything.

No TigerBeetle server can be had from a registry. Messages carry a checksum (AEGIS-128L over header and body), so that
a byte lost, added or changed on the way shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass, field

HEADER = 256
REQUEST, EVICTION = 5, 18
NO_SESSION = 1


def _box() -> bytes:
    def times(a: int, b: int) -> int:
        product = 0
        while b:
            if b & 1:
                product ^= a
            a = a << 1 ^ (0x11B if a & 0x80 else 0)
            b >>= 1
        return product

    found = bytearray()
    for value in range(256):
        inverse = next((other for other in range(256) if times(value, other) == 1), 0)
        rotated = [inverse << shift & 0xFF | inverse >> 8 - shift for shift in range(5)]
        found.append(rotated[0] ^ rotated[1] ^ rotated[2] ^ rotated[3] ^ rotated[4] ^ 0x63)
    return bytes(found)


_BOX = _box()
_TWICE = bytes(value << 1 & 0xFF ^ (0x1B if value & 0x80 else 0) for value in range(256))


def _round(state: int, key: int) -> int:
    """One round of AES."""
    box = [_BOX[byte] for byte in state.to_bytes(16, "big")]
    mixed = bytearray()
    for column in range(4):
        a, b, c, d = (box[(column * 4 + row * 5) % 16] for row in range(4))
        every = a ^ b ^ c ^ d
        mixed += bytes(one ^ every ^ _TWICE[one ^ two] for one, two in ((a, b), (b, c), (c, d), (d, a)))
    return int.from_bytes(mixed, "big") ^ key


_C0 = int.from_bytes(bytes.fromhex("000101020305080d1522375990e97962"), "big")
_C1 = int.from_bytes(bytes.fromhex("db3d18556dc22ff12011314273b528dd"), "big")


def checksum(data: bytes) -> bytes:
    """AEGIS-128L's tag of 128 bits over associated data, key and nonce zero."""
    state = [0, _C1, _C0, _C1, 0, _C0, _C1, _C0]

    def update(one: int, two: int) -> None:
        before = state[:]
        for place in range(8):
            extra = one if place == 0 else two if place == 4 else 0
            state[place] = _round(before[place - 1], before[place] ^ extra)

    for _ in range(10):
        update(0, 0)
    for at in range(0, len(data), 32):
        block = data[at : at + 32].ljust(32, b"\0")
        update(int.from_bytes(block[:16], "big"), int.from_bytes(block[16:], "big"))
    length = int.from_bytes(struct.pack("<QQ", len(data) * 8, 0), "big")
    last = state[2] ^ length
    for _ in range(7):
        update(last, last)
    tag = 0
    for part in state[:7]:
        tag ^= part
    return tag.to_bytes(16, "big")


@dataclass
class Peer:
    """Listens; `clusters` are those of the whole messages that came, `broken` those that were not whole."""

    port: int = 0
    clusters: list[int] = field(default_factory=list)
    broken: list[bytes] = field(default_factory=list)
    connection_count: int = 0
    server: asyncio.Server | None = None

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                header = await reader.readexactly(HEADER)
                body = await reader.readexactly(struct.unpack_from("<I", header, 96)[0] - HEADER)
                if checksum(header[16:]) != header[:16] or checksum(body) != header[32:48]:
                    self.broken.append(header + body)
                    break
                self.clusters.append(int.from_bytes(header[80:96], "little"))
                if header[114] == REQUEST:
                    writer.write(_eviction(header))
                    await writer.drain()
        writer.close()


def _eviction(request: bytes) -> bytes:
    """The answer to a client without a session: it may not go on."""
    header = bytearray(HEADER)
    header[32:48] = checksum(b"")
    header[80:96] = request[80:96]
    struct.pack_into("<I", header, 96, HEADER)
    header[108:112] = request[108:112]
    header[114] = EVICTION
    header[128:144] = request[160:176]
    header[255] = NO_SESSION
    header[:16] = checksum(bytes(header[16:]))
    return bytes(header)
