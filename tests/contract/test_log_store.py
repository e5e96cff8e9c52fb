"""logs: what is stored, found and followed; once each, by day, of one project and environment."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from server_support import BASE64, Server, make_server, process_resources, server

from dominus.contract.line_id import LineIds
from dominus.contract.logs import LEVELS, MAX_CONTEXT_BYTES, MAX_EVENTS
from dominus.orchestrator.logs.days import LogDays, first_id, moment_of

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
ids = LineIds()
MakeServer = Callable[..., Awaitable[Server]]


def tag() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


async def log(server: Server, message: str, level: str = "info", **fields: Any) -> Any:
    return (await server("POST", "/api/herald/log", {"level": level, "message": message, **fields})).data


async def batch(server: Server, events: list[Any], **more: Any) -> Any:
    return (await server("POST", "/api/herald/batch", {"events": events}, **more)).data


async def query(server: Server, **fields: Any) -> list[Any]:
    token = fields.pop("token", "")
    return (await server("POST", "/api/herald/query", fields, token=token)).data["logs"]


async def tail(server: Server, cursor: str | None = None, **fields: Any) -> Any:
    fields |= {"cursor": cursor} if cursor else {}
    return (await server("POST", "/api/herald/tail", fields)).data


async def test_a_line_is_found_as_it_was_sent(server: Server) -> None:
    category = tag()
    sent = {
        "context": {"order": 42, "deep": [{"ü": None}]},
        "category": category,
        "file": "app/orders/place.py",
        "function": "place",
        "line": 7,
    }
    before = dt.datetime.now(dt.UTC)
    assert await log(server, "order placed", "notice", **sent) == {"stored": True}
    [entry] = await query(server, category=category)
    assert {name: entry[name] for name in sent} == sent
    assert (entry["level"], entry["message"]) == ("notice", "order placed")
    # An id holds the moment to a part of a millisecond.
    assert abs(dt.datetime.fromisoformat(entry["time"]) - before) < dt.timedelta(seconds=5)
    assert uuid.UUID(entry["id"]).version == 7


async def test_the_published_clients_line_without_anything_more_is_stored(server: Server) -> None:
    message = tag()
    reply = await server("POST", "/api/herald/log", {"level": "warn", "message": message}, kind=BASE64)
    assert reply.data == {"stored": True}
    [entry] = await query(server, search=message)
    assert (entry["category"], entry["context"], entry["file"]) == ("general", None, None)


async def test_queries_narrow_by_each_of_their_conditions(server: Server) -> None:
    category = tag()
    for number, level in enumerate(LEVELS):
        await log(
            server,
            f"payment {number} refused",
            level,
            category=category,
            file=f"app/billing/{level}.py",
            function=f"do_{level}",
            context={"reason": f"card{number}"},
        )

    async def found(**fields: Any) -> list[str]:
        return [entry["level"] for entry in await query(server, category=category, **fields)]

    assert await found() == [*reversed(LEVELS)]
    assert await found(level="error") == ["error"]
    assert await found(min_level="warn") == ["critical", "error", "warn"]
    assert await found(file="BILLING/no") == ["notice"]
    assert await found(function="do_w") == ["warn"]
    assert await found(search="refused payment 3") == ["warn"]
    assert await found(search="card5") == ["critical"]
    assert await found(search='"payment refused"') == []
    assert await found(search="payment -4 -5", limit=2) == ["warn", "notice"]
    assert await found(file="100%") == []
    assert await found(search="'); DROP TABLE x; --") == []


async def test_a_time_range_begins_with_its_start_and_ends_before_its_end(server: Server) -> None:
    category = tag()
    now = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(hours=1)
    moments = [now + dt.timedelta(seconds=seconds) for seconds in range(4)]
    events = [
        {
            "message": str(at),
            "category": category,
            "id": str(uuid.UUID(int=first_id(moment).int | 7 << 76 | 2 << 62)),
        }
        for at, moment in enumerate(moments)
    ]
    assert (await batch(server, events))["stored"] == 4
    start, end = moments[1], moments[3]
    found = await query(server, category=category, start_time=start.isoformat(), end_time=end.isoformat())
    assert [entry["message"] for entry in found] == ["2", "1"]
    # A time without a zone is UTC.
    found = await query(server, category=category, start_time=start.replace(tzinfo=None).isoformat())
    assert [entry["message"] for entry in found] == ["3", "2", "1"]
    found = await query(server, category=category, end_time=end.isoformat(), limit=1)
    assert [entry["message"] for entry in found] == ["2"]


async def test_a_line_with_an_id_is_stored_once_however_often_and_wherever_it_is_sent(
    server: Server, make_server: MakeServer
) -> None:
    category = tag()
    events = [{"id": ids.make(), "message": f"m{n}", "category": category} for n in range(20)]
    other = await make_server()
    answers = await asyncio.gather(*(batch(asked, events) for asked in (server, other, server, other)))
    assert answers == [{"total": 20, "stored": 20, "failed": 0}] * 4
    # Without any record of the first time: those are forgotten after a day, lines are not.
    await server.resources.postgres.system.execute("DELETE FROM dominus.outcomes")
    assert (await batch(server, events[5:15]))["stored"] == 10
    found = await query(server, category=category)
    assert [entry["message"] for entry in reversed(found)] == [f"m{n}" for n in range(20)]


async def test_a_repeat_of_a_keyed_batch_without_ids_stores_nothing_more(server: Server) -> None:
    category = tag()
    events = [{"message": "one", "category": category}, {"message": "two", "category": category}]
    headers = {"idempotency-key": tag()}
    first = await batch(server, events, headers=headers)
    assert await batch(server, events, headers=headers) == first
    assert len(await query(server, category=category)) == 2


async def test_the_same_id_in_two_projects_is_two_lines(server: Server) -> None:
    event = {"id": ids.make(), "message": tag()}
    theirs = server.token("logs:write", "logs:read", project="theirs")
    await batch(server, [event])
    await batch(server, [event], token=theirs)
    assert len(await query(server, search=event["message"])) == 1
    assert len(await query(server, search=event["message"], token=theirs)) == 1


async def test_lines_of_another_project_are_not_seen_and_not_asked_for(server: Server) -> None:
    message = tag()
    cursor = (await tail(server))["cursor"]
    await batch(server, [{"message": message}], token=server.token(project="theirs"))
    assert await query(server, search=message) == []
    assert (await tail(server, cursor))["logs"] == []
    reply = await server("POST", "/api/herald/query", {"project": "theirs"})
    assert (reply.status, reply.code) == (403, "authorization")
    assert (await query(server, search=message, project="default")) == []


async def test_a_wrong_line_of_a_batch_is_counted_and_keeps_no_other_out(server: Server) -> None:
    category = tag()
    old = str(uuid.UUID(int=first_id(dt.datetime(2001, 1, 1, tzinfo=dt.UTC)).int | 7 << 76 | 2 << 62))
    events: list[Any] = [
        {"message": "good", "category": category},
        {"message": "no level of ours", "level": "loud"},
        "no object",
        {"level": "info"},
        {"message": "too old", "id": old},
        {"message": "no uuid7", "id": str(uuid.uuid4())},
        {"message": "x", "context": {"much": "y" * MAX_CONTEXT_BYTES}},
        {"message": "good too", "category": category, "level": "WARNING", "data": {"n": 1}},
    ]
    answer = await batch(server, events)
    assert (answer["total"], answer["stored"], answer["failed"]) == (8, 2, 6)
    assert [error["index"] for error in answer["errors"]] == [1, 2, 3, 4, 5, 6]
    found = await query(server, category=category)
    assert [(entry["level"], entry["context"]) for entry in found] == [("warn", {"n": 1}), ("info", None)]


async def test_a_batch_with_too_many_lines_is_refused_whole(server: Server) -> None:
    events = [{"message": "x"}] * (MAX_EVENTS + 1)
    reply = await server("POST", "/api/herald/batch", {"events": events})
    assert (reply.status, reply.code) == (400, "validation")
    assert await batch(server, []) == {"total": 0, "stored": 0, "failed": 0}


async def test_a_nul_is_kept_as_what_stands_for_it(server: Server) -> None:
    category = tag()
    await log(server, "a\x00b", category=category, context={"k\x00": ["\x00", "\\u0000"]})
    [entry] = await query(server, category=category)
    assert (entry["message"], entry["context"]) == ("a\ufffdb", {"k\ufffd": ["\ufffd", "\\u0000"]})


async def test_a_number_beyond_all_numbers_keeps_no_other_line_out(server: Server) -> None:
    category = tag()
    body = b'{"events":[{"message":"m","category":"%b","context":{"x":1e999}}]}' % category.encode()
    assert (await server("POST", "/api/herald/batch", body)).data["stored"] == 1
    assert [entry["context"] for entry in await query(server, category=category)] == [{"x": "Infinity"}]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_a_time_that_is_none_in_utc_is_a_mistake_of_the_caller(server: Server, moment: str) -> None:
    for name in ("start_time", "end_time"):
        assert (await server("POST", "/api/herald/query", {name: moment})).code == "validation"


async def test_too_much_together_is_refused_and_less_is_not(server: Server) -> None:
    category = tag()
    context = {"text": uuid.uuid4().hex * 2000}
    for _ in range(6):
        await batch(server, [{"message": "x" * 32_000, "category": category, "context": context}] * 50)
    reply = await server("POST", "/api/herald/query", {"category": category, "limit": 1000})
    if reply.status == 200:
        # jsonb compresses: its size counts, the text's is bounded by the number of lines.
        assert len(reply.data["logs"]) == 300
    else:
        assert (reply.status, reply.code) == (400, "answer_too_large")
    assert len(await query(server, category=category, limit=100)) == 100


# --- following


async def test_a_tail_gives_what_arrives_after_its_cursor_once_and_in_order(
    server: Server, make_server: MakeServer
) -> None:
    category = tag()
    other = await make_server()
    await log(server, "before", category=category)
    start = await tail(server, category=category)
    assert start["logs"] == []
    await batch(other, [{"message": f"m{n}", "category": category} for n in range(5)])
    seen: list[str] = []
    cursor = start["cursor"]
    for _ in range(4):
        answer = await tail(server, cursor, category=category, limit=2)
        seen += [entry["message"] for entry in answer["logs"]]
        cursor = answer["cursor"]
    assert seen == [f"m{n}" for n in range(5)]
    # What was written long ago arrives when it is sent.
    late = (
        first_id(dt.datetime.now(dt.UTC) - dt.timedelta(days=2)).int
        | 7 << 76
        | 2 << 62
        | uuid.uuid4().int >> 70
    )
    await batch(server, [{"message": "late", "category": category, "id": str(uuid.UUID(int=late))}])
    answer = await tail(other, cursor, category=category)
    assert [entry["message"] for entry in answer["logs"]] == ["late"]
    assert (await tail(other, answer["cursor"], category=category))["logs"] == []


async def test_a_tail_misses_no_transaction_that_ends_late(server: Server) -> None:
    """A number that grows would be passed by; what was open when the cursor was made comes with a later one."""
    category = tag()
    # Today's partition is there from the first line on.
    await log(server, "before")
    cursor = (await tail(server))["cursor"]
    async with server.resources.postgres.system.acquire() as connection:
        transaction: Any = connection.transaction()
        await transaction.start()
        await connection.execute(
            "INSERT INTO dominus.logs (project, environment, id, logged_at, level, category, message, principal)"
            " VALUES ('default', 'development', $1, now(), 1, $2, 'slow', 'x')",
            uuid.UUID(ids.make()),
            category,
        )
        await log(server, "quick", category=category)
        first = await tail(server, cursor, category=category)
        await transaction.commit()
    second = await tail(server, first["cursor"], category=category)
    assert [[entry["message"] for entry in answer["logs"]] for answer in (first, second)] == [
        ["quick"],
        ["slow"],
    ]


async def test_a_tail_waits_for_lines_and_no_longer_than_it_was_asked(server: Server) -> None:
    category = tag()
    cursor = (await tail(server, category=category))["cursor"]
    waiting = asyncio.create_task(tail(server, cursor, category=category, wait_seconds=10))
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    await log(server, "now", category=category)
    assert [entry["message"] for entry in (await waiting)["logs"]] == ["now"]
    assert asyncio.get_running_loop().time() - began < 5
    assert (await tail(server, (await waiting)["cursor"], category=category, wait_seconds=0.3))["logs"] == []


@pytest.mark.parametrize(
    "cursor", ["x", "1:2", "5:1:|5:1:|zz", "9:1:", "1:2:9", "\x00", "1:2:3|1:2:3|" + "-" * 36]
)
async def test_a_cursor_of_nobodys_making_is_a_mistake_of_the_caller(server: Server, cursor: str) -> None:
    reply = await server("POST", "/api/herald/tail", {"cursor": cursor})
    assert reply.status == 400, reply.document


# --- days


async def test_days_are_made_ahead_and_old_ones_dropped_once(server: Server, make_server: MakeServer) -> None:
    postgres = server.resources.postgres
    today = dt.datetime.now(dt.UTC).date()
    old = [today - dt.timedelta(days=days) for days in (40, 39, 31)]
    await server.resources.logs.days.ensure(old)
    replicas = [LogDays(postgres, 30) for _ in range(4)]
    dropped = await asyncio.gather(*(replica.keep() for replica in replicas))
    assert sorted(name for names in dropped for name in names) == [
        f"logs_{day:%Y%m%d}" for day in sorted(old)
    ]
    rows = await postgres.system.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'dominus.logs'::regclass"
    )
    names = {row["name"] for row in rows}
    for ahead in range(4):
        assert f"dominus.logs_{today + dt.timedelta(days=ahead):%Y%m%d}" in names


async def test_a_line_of_a_day_that_another_replica_dropped_is_stored_again(server: Server) -> None:
    moment = dt.datetime.now(dt.UTC) - dt.timedelta(days=5)
    category = tag()

    def event() -> dict[str, Any]:
        line = first_id(moment).int | 7 << 76 | 2 << 62 | uuid.uuid4().int >> 70
        return {"message": "x", "category": category, "id": str(uuid.UUID(int=line))}

    await batch(server, [event()])
    await server.resources.postgres.system.execute(f"DROP TABLE dominus.logs_{moment:%Y%m%d}")
    assert (await batch(server, [event()]))["stored"] == 1
    assert len(await query(server, category=category)) == 1


async def test_many_first_lines_of_a_day_at_once_make_it_once(
    server: Server, make_server: MakeServer
) -> None:
    moment = dt.datetime.now(dt.UTC) - dt.timedelta(days=9)
    servers = [server, await make_server(), await make_server()]
    lines = [first_id(moment).int | 7 << 76 | 2 << 62 | n for n in range(12)]
    answers = await asyncio.gather(
        *(
            batch(servers[n % 3], [{"message": "x", "id": str(uuid.UUID(int=line))}])
            for n, line in enumerate(lines)
        )
    )
    assert [answer["stored"] for answer in answers] == [1] * 12


async def test_the_moment_of_an_id_is_that_of_its_making() -> None:
    now = dt.datetime.now(dt.UTC)
    assert abs(moment_of(uuid.UUID(ids.make())) - now) < dt.timedelta(milliseconds=100)
    assert first_id(now) <= uuid.UUID(ids.make())
    made = [ids.make() for _ in range(5000)]
    assert made == sorted(set(made))


async def test_the_data_role_cannot_see_lines(server: Server) -> None:
    with pytest.raises(Exception, match="permission denied"):
        await server.resources.postgres.data.fetch("SELECT * FROM dominus.logs")
