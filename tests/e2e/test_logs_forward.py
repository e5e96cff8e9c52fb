"""New lines go on to another place over HTTP, once each; what that place does changes nothing for logging."""
# ruff: noqa: G004 - these are our own loggers

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dominus import Dominus
from dominus.contract.line_id import LineIds


class Place(ThreadingHTTPServer):
    """Takes posts, and answers with the statuses that it is given, the last of them for ever."""

    def __init__(self) -> None:
        self.statuses = [202]
        self.posts: list[tuple[str, str | None, Any]] = []
        self.refused_count = 0
        self.refused = ""
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def lines(self) -> list[Any]:
        return [line for _, _, body in self.posts for line in body]


class _Handler(BaseHTTPRequestHandler):
    server: Place

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        if status >= 300:
            self.server.refused_count += len(body)
            self.server.refused += json.dumps(body)
        else:
            self.server.posts.append((self.path, self.headers["authorization"], body))
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def place() -> Iterator[Place]:
    found = Place()
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


@pytest_asyncio.fixture
async def client(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> AsyncIterator[Dominus]:
    monkeypatch.setenv("DOMINUS_LOG_FORWARD_URL", f"{place.url}/v1/logs")
    monkeypatch.setenv("DOMINUS_LOG_FORWARD_TOKEN", "source-token")
    monkeypatch.setenv("DOMINUS_LOG_FORWARD_FORMAT", form)
    monkeypatch.setenv("DOMINUS_IS_DURABLE", "false")
    async with Dominus("embedded", home=str(tmp_path / "home")) as made:
        yield made


async def posted(place: Place, count: int = 1) -> None:
    async with asyncio.timeout(15):
        while len(place.posts) < count:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("form", ["betterstack"])
async def test_betterstack_gets_each_new_line_once_also_after_failures(client: Dominus, place: Place) -> None:
    place.statuses = [503, 429, 202]
    event = {
        "id": LineIds().make(),
        "level": "warn",
        "message": "low",
        "context": {"left": 3},
        "file": "a/b.py",
    }
    await client.logs.batch([event])
    await client.logs.batch([event, {"message": "another"}])
    await posted(place, 2)
    [low, another] = place.lines()
    assert place.posts[0][:2] == ("/v1/logs", "Bearer source-token")
    assert (low["level"], low["message"], low["context"], low["file"]) == (
        "warn",
        "low",
        {"left": 3},
        "a/b.py",
    )
    assert (low["project"], low["environment"]) == ("default", "development")
    assert uuid.UUID(low["id"]) == uuid.UUID(event["id"])
    assert low["dt"].endswith("+00:00")
    assert another["message"] == "another"


@pytest.mark.parametrize("form", ["otlp"])
async def test_a_collector_gets_otlp(client: Dominus, place: Place) -> None:
    await client.logs.batch(
        [{"level": "critical", "message": "full", "context": {"n": 1, "deep": {"a": True}}}]
    )
    await posted(place)
    [resource] = place.posts[0][2]["resourceLogs"]
    named = {item["key"]: item["value"] for item in resource["resource"]["attributes"]}
    assert named["service.name"] == {"stringValue": "default"}
    [record] = resource["scopeLogs"][0]["logRecords"]
    assert (record["severityNumber"], record["severityText"]) == (21, "CRITICAL")
    assert record["body"] == {"stringValue": "full"}
    attributes = {item["key"]: item["value"] for item in record["attributes"]}
    assert attributes["context.n"] == {"intValue": "1"}
    assert attributes["context.deep"] == {"stringValue": '{"a":true}'}
    assert int(record["timeUnixNano"]) > 1_700_000_000 * 10**9


@pytest.mark.parametrize("form", ["betterstack"])
async def test_a_place_that_refuses_or_is_away_never_stops_logging(client: Dominus, place: Place) -> None:
    place.statuses = [400]
    for number in range(3):
        await client.logs.info(f"m{number}", category="kept")
        assert await client.logs.flush(timeout=5)
    async with asyncio.timeout(10):
        while '"m2"' not in place.refused:
            await asyncio.sleep(0.01)
    place.statuses = [202]
    await client.logs.info("m3", category="kept")
    assert [entry["message"] for entry in await client.logs.query(category="kept")] == [
        "m3",
        "m2",
        "m1",
        "m0",
    ]
    await posted(place)
    assert [line["message"] for line in place.lines()] == ["m3"]
