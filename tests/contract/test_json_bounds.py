"""What one request may make the server parse: no body and no stored secret holds up the others of its worker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from server_support import Server, make_server, process_resources, server

from dominus.errors import ValidationError
from dominus.orchestrator.http import json_bounds
from dominus.orchestrator.http.body import fields_of
from dominus.orchestrator.http.json_bounds import check_json
from dominus.orchestrator.services import secrets

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRETS, SET = "/api/warden/secrets", "/api/whisperer/set"
MIB = 1024 * 1024


@asynccontextmanager
async def longest_block() -> AsyncIterator[list[float]]:
    """How long, at most, nothing else of the loop ran inside the block; in CPU time, since the machine is shared."""
    longest = [0.0]

    async def watch() -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            longest[0] = max(longest[0], time.thread_time() - began)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield longest
    finally:
        watcher.cancel()


HOSTILE = {
    "lists": b'{"logical_path":"k","value":[' + b"[]," * (3 * MIB) + b"[]]}",
    "lists in lists": b'{"logical_path":"k","value":[' + b"[[]]," * (3 * MIB // 2) + b"[]]}",
    "objects": b'{"logical_path":"k","value":[' + b'{"":{}},' * MIB + b"1]}",
    "texts": b'{"logical_path":"k","value":[' + b'"",' * (3 * MIB) + b'""]}',
    "numbers": b'{"logical_path":"k","value":[' + b"1," * (4 * MIB) + b"1]}",
    "keys": b'{"logical_path":"k","value":{' + b",".join(b'"%d":1' % n for n in range(MIB // 2)) + b"," * MIB,
    "backslashes": b'{"logical_path":"k","value":["' + b"\\\\" * (3 * MIB) + b'",' + b"[]," * MIB + b"[]]}",
    "escaped quotes": b'{"logical_path":"k","value":["' + b'\\"' * (2 * MIB) + b'",' + b"[]," * MIB + b"[]]}",
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_body_is_refused_and_holds_up_nobody(what: str, server: Server) -> None:
    assert len(HOSTILE[what]) < 10 * MIB
    token = server.token()
    async with longest_block() as longest:
        reply = await server("POST", SET, HOSTILE[what], token=token)
    assert (reply.status, reply.code) == (400, "too_many_values")
    assert longest[0] < 0.1


@pytest.mark.parametrize("unit", [b"[]", b"[[]]", b'{"a":{}}', b"1", b'""'])
async def test_the_most_that_is_taken_is_parsed_in_a_moment(unit: bytes) -> None:
    cost = 1 + unit.count(b"[") * 4 + unit.count(b"{") * 4
    body = b'{"value":[' + b",".join([unit] * ((json_bounds.MAX_COST - 100) // cost)) + b"]}"
    await check_json(body)
    taken: list[float] = []
    for _ in range(3):
        began = time.thread_time()
        fields_of(body)
        taken.append(time.thread_time() - began)
    assert min(taken) < 0.1, "the best of three: others use this machine, too"


@pytest.mark.parametrize("text", [",[{" * MIB, '"' * MIB, "\\" * MIB, '\\"' * MIB, ',\\",' * MIB])
async def test_what_is_inside_a_text_is_no_value(text: str) -> None:
    await check_json(json.dumps({"value": text, "more": [[], {}, text]}).encode())


@pytest.mark.parametrize(
    "lead", ["", "\\", '"', '\\"', "\\" * 7, "x" * (256 * 1024 - 12), "\\" * (256 * 1024)]
)
async def test_no_text_before_them_hides_values(lead: str) -> None:
    body = json.dumps({"value": lead}).encode()[:-1] + b',"more":[' + b"[]," * 300_000 + b"[]]}"
    with pytest.raises(ValidationError, match="too many JSON values"):
        await check_json(body)


# --- stored secrets


async def test_secrets_that_are_many_small_values_are_read_without_making_them(server: Server) -> None:
    value = [[] for _ in range(199_000)]
    token = server.token(project="nodes")
    keys = [f"K{number}" for number in range(20)]
    for key in keys:
        stored = await server("POST", SECRETS, {"action": "update", "key": key, "value": value}, token=token)
        assert stored.status == 200, stored.document
    async with longest_block() as longest:
        reply = await server("POST", SECRETS, {"action": "get_many", "keys": keys}, token=token)
    assert reply.status == 200
    assert longest[0] < 0.1
    assert reply.body.count(b"[],") >= 20 * 198_999
    one = await server("POST", SECRETS, {"action": "get", "key": "K1"}, token=token)
    assert one.data["secret"]["value"] == value


async def test_secrets_that_are_too_large_together_are_a_400_that_says_so(server: Server) -> None:
    token = server.token(project="large")
    keys = [f"K{number}" for number in range(17)]
    for key in keys:
        body = {"action": "update", "key": key, "value": "x" * (secrets.MAX_SECRET_BYTES - 2)}
        assert (await server("POST", SECRETS, body, token=token)).status == 200
    reply = await server("POST", SECRETS, {"action": "get_many", "keys": keys}, token=token)
    assert (reply.status, reply.code) == (400, "answer_too_large")
    assert "fewer" in reply.document["hint"]
    reply = await server("POST", SECRETS, {"action": "get_many", "keys": [*keys[:15], "none"]}, token=token)
    assert sorted(reply.data["values"]) == sorted(keys[:15])
    assert reply.data["missing"] == ["none"]


async def test_values_come_back_as_they_were_stored(
    server: Server, make_server: Callable[..., Awaitable[Server]]
) -> None:
    values = {"A": None, "B": "\u2028é😀", "C": {"x": [1, 2.5, True]}, "D": 10**30, "E": [], 'F"\\': "q"}
    for key, value in values.items():
        body = {"action": "update", "key": key, "value": value, "comment": "c"}
        assert (await server("POST", SECRETS, body)).status == 200
    many = await server("POST", SECRETS, {"action": "get_many", "keys": list(values)})
    assert many.data == {"values": values, "missing": []}
    one = await server("POST", SECRETS, {"action": "get", "key": "B"}, kind="text/plain")
    assert one.data["secret"]["value"] == values["B"]
    assert set(one.data["secret"]) == {"key", "value", "version", "comment", "updated_at"}
