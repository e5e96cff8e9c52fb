"""Small requests straight over aiohttp's pool: HTTP as it may come, and the way back when aiohttp is another one."""

from __future__ import annotations

import asyncio

import pytest
from conftest import TOKEN
from raw_server import Exchange, answers, raw_server

from dominus import Dominus
from dominus.errors import ValidationError
from dominus.transport.carriers import aiohttp as carrier
from dominus.transport.carriers.aiohttp import AiohttpCarrier
from dominus.transport.carriers.base import Outgoing
from dominus.transport.carriers.direct import SMALL_BYTES, fits

HIT = answers({"found": True, "value": 7})
STORED = answers({"stored": True})


async def carrier_of(client: Dominus) -> AiohttpCarrier:
    found = (await client._caller.core.pipeline())._wire.carrier
    assert isinstance(found, AiohttpCarrier)
    return found


def test_the_installed_aiohttp_has_what_is_used_of_it():
    assert fits()


async def test_an_aiohttp_that_is_not_known_is_used_through_its_session(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(carrier, "fits", lambda: False)
    async with raw_server(HIT) as server, Dominus(server.url, TOKEN) as client:
        assert await client.redis.get("k") == 7
        assert (await carrier_of(client)).direct is None


async def test_both_ways_send_the_same_request(monkeypatch: pytest.MonkeyPatch):
    heads: list[dict[str, str]] = []
    for is_known in (True, False):
        monkeypatch.setattr(carrier, "fits", lambda is_known=is_known: is_known)
        async with raw_server(HIT) as server, Dominus(server.url, TOKEN) as client:
            assert await client.redis.get("k") == 7
            exchange = server.seen[0]
            assert exchange.path == "/api/whisperer/get"
            changing = {"host", "dominus-deadline-ms"}
            heads.append({name: value for name, value in exchange.headers.items() if name not in changing})
    assert heads[0] == heads[1]


@pytest.mark.parametrize("size", [0, 10, SMALL_BYTES - 200, SMALL_BYTES + 1, 1_500_000])
async def test_bodies_of_any_size_arrive_whole(size: int):
    async with raw_server(STORED) as server, Dominus(server.url, TOKEN) as client:
        await client.redis.set("k", "x" * size)
        assert server.seen[0].body.count(b"x") >= size
        assert int(server.seen[0].headers["content-length"]) == len(server.seen[0].body)


async def test_an_interim_answer_is_skipped():
    async def early_hints(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        await exchange.answer({"found": True, "value": 7})

    async with raw_server(early_hints) as server, Dominus(server.url, TOKEN) as client:
        assert await client.redis.get("k") == 7
        assert await client.redis.get("k") == 7
        assert server.open_count == 1


async def test_an_answer_without_a_length_ends_with_its_connection():
    async def until_close(exchange: Exchange) -> None:
        exchange.writer.write(
            b'HTTP/1.1 200 OK\r\ndominus-wire: json\r\n\r\n{"success":true,"data":{"found":true,'
        )
        await exchange.writer.drain()
        exchange.writer.write(b'"value":7}}')
        exchange.writer.close()

    async with raw_server(until_close) as server, Dominus(server.url, TOKEN) as client:
        assert await client.redis.get("k") == 7
        assert await client.redis.get("k") == 7


async def test_a_chunked_answer_is_put_together():
    async def chunked(exchange: Exchange) -> None:
        body = b'{"success":true,"data":{"found":true,"value":7}}'
        exchange.writer.write(b"HTTP/1.1 200 OK\r\ndominus-wire: json\r\ntransfer-encoding: chunked\r\n\r\n")
        for byte in body:
            exchange.writer.write(b"1\r\n%c\r\n" % byte)
        exchange.writer.write(b"0\r\n\r\n")
        await exchange.writer.drain()

    async with raw_server(chunked) as server, Dominus(server.url, TOKEN) as client:
        assert await asyncio.gather(*(client.redis.get("k") for _ in range(20))) == [7] * 20


async def test_a_connection_is_kept_and_used_again():
    async with raw_server(HIT) as server, Dominus(server.url, TOKEN) as client:
        for _ in range(5):
            await client.redis.get("k")
        assert len({id(exchange.writer) for exchange in server.seen}) == 1


async def test_a_prefix_of_the_url_stands_before_every_path():
    async with raw_server(HIT) as server, Dominus(f"{server.url}/behind/a/proxy/", TOKEN) as client:
        await client.redis.get("k")
        assert server.seen[0].path == "/behind/a/proxy/api/whisperer/get"


@pytest.mark.parametrize("value", ["a\r\nevil: 1", "a\nb", "a\rb"])
async def test_a_header_cannot_begin_another(value: str):
    async with raw_server(HIT) as server, Dominus(server.url, TOKEN) as client:
        out = Outgoing("POST", "/api/x", {"authorization": value}, b"{}", "redis.get")
        with pytest.raises(ValidationError, match="line end"):
            await (await carrier_of(client)).carry(out)
        assert server.seen == []
