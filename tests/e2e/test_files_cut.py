"""Files on connections that break: sockets cut in the middle of a part, a server killed in the middle of an upload."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from forwarder import Forwarder, forwarder
from live_support import Live, live, running

from dominus import Dominus, DominusError

__all__ = ["live"]
MIB = 1024 * 1024


def client_of(way: Forwarder, psk: str, timeout: float = 30.0) -> Dominus:
    return Dominus(way.url, psk, timeout=timeout)


def kill(server: Live) -> None:
    os.kill(json.loads((server.home / "lock").read_text())["pid"], signal.SIGKILL)


async def test_sockets_cut_in_the_middle_of_parts_lose_nothing(live: Live, tmp_path: Path) -> None:
    data = os.urandom(44 * MIB)
    source, target = tmp_path / "film.bin", tmp_path / "back.bin"
    source.write_bytes(data)
    with forwarder(live.port) as way:
        async with client_of(way, live.psk) as client:
            await client.files.upload(b"x", "small")
            way.cuts = [way.passed + count * MIB for count in (3, 21, 35)]
            made = await client.files.upload(source, "film.bin")
            assert way.cuts == []
            assert (made["size"], made["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
            way.cuts = [way.passed + count * MIB for count in (3, 21, 35)]
            await client.files.save(target, made["id"])
            assert way.cuts == []
            assert target.read_bytes() == data


async def test_an_upload_that_gave_up_goes_on_after_the_server_was_killed_and_sends_only_what_is_missing(
    tmp_path: Path,
) -> None:
    data = os.urandom(44 * MIB)
    home = tmp_path / "home"
    with running(home) as first, forwarder(first.port) as way:

        async def source() -> AsyncIterator[bytes]:
            # Two parts have arrived when the third is asked for, and no more is sent before the server is gone.
            yield data[: 24 * MIB]
            kill(first)
            way.leave()
            yield data[24 * MIB :]

        async with client_of(way, first.psk, timeout=2.0) as client:
            with pytest.raises(DominusError) as caught:
                await client.files.upload(source(), "film.bin")
        upload_id: str = caught.value.details["upload_id"]
        assert "resume" in (caught.value.hint or "")
        with running(home) as second:
            way.target = second.port
            way.listen()
            async with client_of(way, second.psk) as client:
                arrived = {part["number"] for part in (await client.files.list_parts(upload_id))["parts"]}
                assert len(arrived) >= 1
                before = way.passed
                made = await client.files.upload(data, "film.bin", resume=upload_id)
                assert (made["size"], made["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
                missing = len(data) - len(arrived) * 8 * MIB
                assert missing < way.passed - before < missing + MIB
                digest = hashlib.sha256()
                async for piece in client.files.stream(made["id"]):
                    digest.update(piece)
                assert digest.hexdigest() == made["sha256"]


async def test_an_upload_rides_through_a_restart_of_the_server(tmp_path: Path) -> None:
    data = os.urandom(44 * MIB)
    home = tmp_path / "home"
    with running(home) as first, forwarder(first.port) as way:
        killed = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            yield data[: 24 * MIB]
            kill(first)
            way.leave()
            killed.set()
            yield data[24 * MIB :]

        async with client_of(way, first.psk) as client:
            uploading = asyncio.ensure_future(client.files.upload(source(), "film.bin"))
            await asyncio.wait_for(killed.wait(), 20)
            again = running(home)
            second = await asyncio.to_thread(again.__enter__)
            try:
                way.target = second.port
                way.listen()
                made = await uploading
                assert (made["size"], made["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
                assert (await client.files.read(made["id"], 20 * MIB, 100)) == data[20 * MIB : 20 * MIB + 100]
            finally:
                await asyncio.to_thread(again.__exit__, None, None, None)
