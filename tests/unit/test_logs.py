"""Log lines: their form, and that a reader who does not read costs lines and not time."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from dominus.orchestrator.serving.logs import ACCESS, JsonFormatter, LineHandler, TextFormatter


def record(
    message: str, *args: object, name: str = "dominus.test", level: int = logging.INFO
) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, args, None)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read(descriptor: int, count: int) -> list[str]:
    text = b""
    while text.count(b"\n") < count:
        text += os.read(descriptor, 65536)
    return text.decode().splitlines()


def test_a_json_line_carries_time_level_logger_and_message() -> None:
    line = json.loads(JsonFormatter().format(record('say "%s"', "hi\n", level=logging.WARNING)))
    assert line.pop("ts").endswith("Z")
    assert line == {"level": "warning", "logger": "dominus.test", "message": 'say "hi\n"'}


def test_the_facts_of_a_request_stand_beside_the_time() -> None:
    line = json.loads(JsonFormatter().format(record("%s", '{"status":200,"ms":1.5}', name=ACCESS)))
    assert (line["logger"], line["status"], line["ms"], "message" in line) == (ACCESS, 200, 1.5, False)


@pytest.mark.parametrize("odd", ["\x1b[2J", "\x85", "\u202eevil", "\u2066", "\u2028", "\x7f", "\U000e0001"])
def test_what_a_terminal_would_obey_is_written_as_an_escape(odd: str) -> None:
    access = json.dumps(
        {"path": odd, "status": 200, "ms": 1.5, "method": "GET", "operation": "x", "request_id": "r"},
        ensure_ascii=False,
    )
    for formatter in (JsonFormatter(), TextFormatter()):
        for line in (record("by %s", odd), record("%s", access, name=ACCESS)):
            assert formatter.format(line).isprintable()
    assert json.loads(JsonFormatter().format(record("by %s", odd)))["message"] == f"by {odd}"
    assert json.loads(JsonFormatter().format(record("%s", access, name=ACCESS)))["path"] == odd


def test_lines_of_a_traceback_stay_lines_for_people() -> None:
    assert TextFormatter().format(record("one\n\ttwo")).endswith("one\n\ttwo")


def test_an_exception_is_part_of_its_line() -> None:
    item = record("failed")
    try:
        raise ValueError("why")
    except ValueError:
        item.exc_info = sys.exc_info()
    text = JsonFormatter().format(item)
    assert "\n" not in text
    assert "ValueError: why" in json.loads(text)["exception"]


def test_people_read_a_request_in_one_line() -> None:
    facts = {
        "status": 404,
        "ms": 1.234,
        "method": "GET",
        "path": "/x",
        "operation": "a.b",
        "request_id": "r1",
    }
    text = TextFormatter().format(record("%s", json.dumps(facts), name=ACCESS))
    assert text.partition(" ")[2].split() == ["404", "1.23", "ms", "GET", "/x", "a.b", "r1"]


def test_lines_arrive_in_order_and_flush_waits_for_them(pipe: tuple[int, int]) -> None:
    handler = LineHandler(pipe[1])
    for number in range(100):
        handler.handle(record("line %d", number))
    handler.flush()
    os.set_blocking(pipe[0], False)
    assert os.read(pipe[0], 65536).decode().splitlines() == [f"line {n}" for n in range(100)]


def test_a_reader_that_does_not_read_costs_lines_which_are_counted(pipe: tuple[int, int]) -> None:
    handler = LineHandler(pipe[1], max_lines=50)
    began = threading.Event()
    total = 3000

    def say_all() -> None:
        for number in range(total):
            handler.handle(record("%d %s", number, "x" * 1000))
        began.set()

    threading.Thread(target=say_all, daemon=True).start()
    assert began.wait(10), "a slow reader held up the one who logs"
    seen = dropped = 0
    while seen + dropped < total:
        # The rest of the lines comes out as the pipe empties.
        handler.flush()
        for line in read(pipe[0], 1):
            if "log lines dropped" in line:
                dropped += int(line.split()[0])
            elif line.endswith("x") and line[0].isdigit():
                seen += 1
        if seen + dropped < total:
            handler.handle(record("go on"))
    assert dropped > 0


def test_a_closed_stderr_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    handler = LineHandler(write_end)
    handler.handle(record("into nothing"))
    handler.flush()
    os.close(write_end)
