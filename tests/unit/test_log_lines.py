"""What a log line holds: the call site, a copy of the context, no secrets; and nothing that makes it fail."""
# ruff: noqa: G010 - these are our own loggers

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import os
import stat
import time
import timeit
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dominus import Dominus
from dominus.contract.line_id import LineIds
from dominus.orchestrator.logs.forward import betterstack, otlp
from dominus.orchestrator.logs.store import Row
from dominus.shipping.accepted import Logged
from dominus.shipping.lines import ID_LENGTH, make_line
from dominus.shipping.redaction import Redactor
from dominus.shipping.spool import Spool, orphans

CARD = "4111 1111 1111 1111"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"


def line_of(*args: Any, **kwargs: Any) -> Any:
    return json.loads(make_line(*args, **kwargs))


def cleaned(context: Any = None, message: str = "m", **options: Any) -> Any:
    return json.loads(Redactor(**options).clean(make_line("info", message, context)))


# --- call sites


def lines_of(client: Dominus) -> list[Any]:
    return [json.loads(line) for line in client.logs._shipper._waiting.lines]


async def test_the_call_site_is_that_of_the_call_also_under_gather_and_in_tasks() -> None:
    client = Dominus("http://127.0.0.1:9", "t" * 43)

    async def place_order() -> None:
        await asyncio.gather(client.logs.info("a"), client.logs.warn("b"))
        await asyncio.create_task(client.logs.error("c"))
        await client("logs.info", message="d")
        client.logs.debug("not awaited")

    await place_order()
    lines = lines_of(client)
    client.logs._shipper._waiting.lines.clear()
    assert [line["message"] for line in lines] == ["a", "b", "c", "d", "not awaited"]
    file = "/".join(Path(__file__).parts[-3:])
    assert {(line["file"], line["function"]) for line in lines} == {(file, "place_order")}
    assert all(line["line"] for line in lines)
    await client.aclose()


async def test_awaiting_gives_whether_the_line_was_taken() -> None:
    client = Dominus("http://127.0.0.1:9", "t" * 43)
    logged = client.logs.info("x")
    assert isinstance(logged, Logged)
    assert await logged is True
    assert await logged is True
    client.logs._shipper._waiting.lines.clear()
    await client.aclose()


# --- what is kept


def test_the_context_is_copied_at_the_call_and_not_changed() -> None:
    context: dict[str, Any] = {"list": [1]}
    line = make_line("error", "m", context, exception=ValueError("bad"))
    context["list"].append(2)
    assert json.loads(line)["context"]["list"] == [1]
    assert context == {"list": [1, 2]}


def test_an_exception_comes_with_type_message_traceback_and_cause() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error
    except ValueError as error:
        facts = line_of("error", "m", {"n": 1}, exception=error)["context"]
    assert facts["n"] == 1
    assert (facts["exception"]["type"], facts["exception"]["message"]) == ("ValueError", "outer")
    assert "KeyError: 'inner'" in facts["exception"]["traceback"]
    assert "test_log_lines.py" in facts["exception"]["traceback"]


def test_a_traceback_that_a_queue_has_written_is_kept() -> None:
    client = Dominus("http://127.0.0.1:9", "t" * 43)
    record = logging.LogRecord("shop", logging.ERROR, __file__, 1, "failed", (), None)
    record.exc_text = "Traceback ...: ValueError: why"
    client.logs.handler().handle(record)
    [line] = lines_of(client)
    client.logs._shipper._waiting.lines.clear()
    assert line["context"] == {"exception": {"traceback": "Traceback ...: ValueError: why"}}


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_whatever_is_logged_becomes_a_line() -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    strange: list[Any] = [
        circle,
        Hostile(),
        {"h": Hostile(), ("a", 1): b"\xff", "n": float("nan"), "big": 10**400, "s": "\ud800", 3: {1, 2}},
        {"d": dt.datetime.now(dt.UTC), "dec": Decimal("1.50"), "path": Path("x"), "e": ValueError("v")},
        [1, 2],
        "text",
        7,
    ]
    for context in strange:
        assert isinstance(line_of("info", "m", context)["context"], dict)
    for message in ("\ud800", 7, None, Hostile(), "x" * 100_000):
        line = line_of("info", message)
        assert isinstance(line["message"], str)
        assert len(line["message"]) <= 32_768
    big = line_of("info", "m", {"text": "x" * 200_000}, exception=ValueError("kept"))
    assert "200,0" in big["context"]["cut"]
    assert big["context"]["exception"]["message"] == "kept"
    assert line_of("info", "m", category="a\nb" + "x" * 500)["category"].startswith("a b")
    assert make_line("info", "m")[:ID_LENGTH].count(b'"') == 3


# --- redaction


@pytest.mark.parametrize(
    "key",
    ["password", "DB_PASSWORD", "userPassword", "api_key", "apiKey", "X-Api-Key", "Authorization", "cookie",
     "Set-Cookie", "access_token", "refreshToken", "client_secret", "private-key", "cvv", "pin", "passwords"],
)  # fmt: skip
def test_values_of_secret_keys_are_hidden_at_any_depth(key: str) -> None:
    for value in ("hunter2hunter2", {"a": "hunter2"}, ["hunter2"]):
        line = cleaned({"deep": [{key: value}], "user": "ada"})
        assert line["context"] == {"deep": [{key: "***"}], "user": "ada"}


@pytest.mark.parametrize(
    "context",
    [
        {"token_count": 512, "prompt_tokens": 3},
        {"shipping": "fast", "author": "ada", "compass": "north"},
        {"order": 4111111111111112, "at": "2026-02-03T04:05:06.789012", "phone": "+49 30 1234567890"},
        {"is_password_set": True, "password": None},
        {"session_id": "42", "token_type": "Bearer"},
        {"url": "https://x/y?page=2&sort=name", "at": "0.4111111111111111", "key": "user:42"},
        {"rows": "1 2 3 4 5 6 7 8 9 10 11 12 13", "sha": "4111111111111111abcdef"},
    ],
)
def test_what_is_no_secret_stays(context: dict[str, Any]) -> None:
    assert cleaned(context)["context"] == context


@pytest.mark.parametrize(
    ("text", "kept", "gone"),
    [
        (f"paid with {CARD}.", "***1111", "4111 1111"),
        ("card 4111-1111-1111-1111", "***1111", "4111-1111"),
        (f"sent {JWT} on", "sent *** on", "eyJ"),
        ("Authorization: Bearer abcdef123456", "***", "abcdef"),
        ("postgresql://ada:hunter2@db/app", "//ada:***@db", "hunter2"),
        ('password="hunter 2" ok', "ok", "hunter"),
        ("password=b'hunter2' ok", "ok", "hunter"),
        ('body: {\\"password\\": \\"hunter2\\", \\"n\\": 1}', "1}", "hunter"),
        ('password="hunter2, and the line was c', "***", "hunter"),
        ("amqp://ada:hunter@2@db/app", "//ada:***@db", "hunter"),
        ("Authorization: Token 0123abcd, next", "***", "0123"),
        ("Cookie: sid=0123abcd; theme=dark", "***", "0123"),
        ("GET /f?X-Amz-Signature=0123abcd&part=2", "part=2", "0123"),
        ("GET /f?api_key=0123abcd&page=2", "page=2", "0123"),
        ("GET /cb?code=0123abcd#top", "#top", "0123"),
        ("pushed with ghp_0123456789abcdefghij0123", "***", "ghp_"),
        ("stripe sk_live_0123456789abcdefghij said no", "said no", "sk_live"),
        (f"{CARD} 12/27", "***1111 12/27", "4111 1111"),
        (f"order 12 {CARD} 123", "order 12 ***1111 123", "4111 1111"),
        (f"1234 {CARD}", "1234 ***1111", "4111 1111"),
        ("amex 3782 822463 10005, paid", "***0005", "3782 8"),
        ("card_4111111111111111", "card_***1111", "41111"),
        (
            "-----BEGIN CERTIFICATE-----\nx\n-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----",
            "x",
            "MII",
        ),
        ("url?token=abc123&x=1", "x=1", "abc123"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----", "***", "MII"),
    ],
)
def test_texts_that_look_secret_are_hidden(text: str, kept: str, gone: str) -> None:
    for line in (cleaned(message=text)["message"], cleaned({"list": [text]})["context"]["list"][0]):
        assert kept in line
        assert gone not in line


def test_a_card_as_a_number_and_the_token_of_the_client_are_hidden() -> None:
    assert cleaned({"n": 4111111111111111})["context"] == {"n": "***1111"}
    assert "s3cr3t-psk" not in json.dumps(cleaned({"a": "x s3cr3t-psk y"}, secrets=["s3cr3t-psk"]))


def test_the_list_of_words_can_be_longer_and_shorter() -> None:
    found = cleaned({"iban": "DE1", "taxNumber": 7, "cookie": "oat"}, more=["iban", "tax_number", "!cookie"])
    assert found["context"] == {"iban": "***", "taxNumber": "***", "cookie": "oat"}
    for key in ("Schlüssel", "SCHLÜSSEL", "Ge_Heim", "GEHEIM"):
        assert cleaned({key: "x"}, more=["schlüssel", "geheim"])["context"] == {key: "***"}


@pytest.mark.parametrize(
    "part",
    ["a-", "eyJ-", "eyJ", "secret-", "token", "1", "1 ", "1111 ", "4111 1111 1111 1111 ", "://", "://a:", "://:a@", "_", "i_",
     "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "bearer ", "basic", 'password="', "password='", "token\\", "?", "&", "?a-",
     "?key", "&key=", "cookie:", "authorization", "sk-", "ghp_", "=", "A", "eyJaaaaaaaa.", "x.eyJ", "\\", '"',
     "schl" + "ü" * 50_000, "schl" + "ü_" * 50_000, "schl" + "-" * 100_000],
)  # fmt: skip
def test_no_text_makes_it_slow(part: str) -> None:
    """A megabyte is far more than a line can hold; the slowest text takes about half a second on a busy machine."""
    redactor = Redactor(["iban", "tax_number", "schlüssel"], ["a-psk-of-the-tests"])
    began = time.process_time()
    for size, ending in ((1_000_000, ""), (100_000, " " * 100_000), (100_000, "\n,")):
        text = part * max(1, size // len(part))
        redactor.text("token=" + text + ending)
        redactor._suspicious.search(text.encode())
    assert time.process_time() - began < 6


def test_what_an_exception_says_is_hidden_too_also_in_its_traceback_and_cause() -> None:
    def connect(password: str) -> None:
        raise ConnectionError(f"cannot reach postgresql://ada:{password}@db/app with api_key={password}")

    try:
        try:
            connect("hunter2")
        except ConnectionError as error:
            raise ValueError({"password": "hunter2", "cards": [CARD]}) from error
    except ValueError as error:
        line = Redactor().clean(make_line("error", "failed", {"n": 1}, exception=error))
    facts = json.loads(line)["context"]["exception"]
    assert "ConnectionError: cannot reach postgresql://ada:***@db/app" in facts["traceback"]
    assert b"hunter2" not in line.replace(b'connect(\\"hunter2\\")', b"")
    assert b"4111" not in line


@pytest.mark.parametrize("depth", [50, 100, 190, 196, 200, 230, 254, 300, 900])
def test_however_deep_a_context_is_it_is_looked_through_or_cut(depth: int) -> None:
    value: Any = "password=hunter2"
    for _ in range(depth):
        value = [value]
    assert b"hunter" not in Redactor().clean(make_line("info", "a token", {"v": value}))


def test_a_number_of_thousands_of_digits_keeps_no_line_back() -> None:
    for number in (10**400, -(10**4000), 10**5000):
        assert cleaned({"v": number}, "a token")["message"] == "a token"


def test_a_line_that_cannot_be_read_is_left_out() -> None:
    line = make_line("warn", "m", {"token": "x"})
    assert json.loads(Redactor().clean(line[:-3])) == {
        "id": json.loads(line)["id"],
        "level": "warn",
        "message": "(a line that could not be read is left out)",
    }


def test_a_nul_does_not_leave_the_process() -> None:
    assert cleaned({"a": "x\x00y"})["context"] == {"a": "x\ufffdy"}


# --- forwarding


def test_no_value_makes_what_is_forwarded_unreadable() -> None:
    context = {"big": 2**63, "least": -(2**63), "far": float("inf"), "deep": {"nan": float("nan")}}
    row = Row(uuid.UUID(LineIds().make()), 2, "general", "m", context, None, None, None)
    lines = [(("p", "e", "s"), row)]

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(betterstack(lines), parse_constant=refuse)[0]["context"]["far"] == "Infinity"
    [resource] = json.loads(otlp(lines), parse_constant=refuse)["resourceLogs"]
    attributes = {one["key"]: one["value"] for one in resource["scopeLogs"][0]["logRecords"][0]["attributes"]}
    assert attributes["context.big"] == {"stringValue": str(2**63)}
    assert attributes["context.least"] == {"intValue": str(-(2**63))}
    assert attributes["context.far"] == {"doubleValue": "Infinity"}


# --- the spool


def test_lines_wait_in_a_private_file_in_order_and_are_forgotten_when_they_are_stored(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "home" / "spool", "tag", 10_000)
    assert not spool.has_lines
    assert spool.append([b"1", b"2", b"3"]) == 3
    [path] = orphans(tmp_path / "home" / "spool", "tag")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert spool.read(2, 1000) == [b"1", b"2"]
    assert spool.read(2, 1000) == [b"1", b"2"]
    spool.forget()
    spool.append([b"4"])
    assert (spool.read(9, 1000), spool.line_count) == ([b"3", b"4"], 2)
    spool.forget()
    assert not spool.has_lines
    assert path.stat().st_size == 0
    spool.close()
    assert not path.exists()


def test_the_spool_is_bounded_over_all_processes(tmp_path: Path) -> None:
    first, second = Spool(tmp_path / "s", "tag", 100), Spool(tmp_path / "s", "tag", 100)
    assert first.append([b"x" * 29] * 5) == 3
    assert second.append([b"x" * 4] * 5) == 2
    first.close()
    second.close()


def test_only_the_spool_of_a_process_that_has_ended_is_taken_over_and_by_one(tmp_path: Path) -> None:
    owner, later, other = (Spool(tmp_path / "s", "tag", 1000) for _ in range(3))
    owner.append([b"1", b"2"])
    assert later.left_behind() is None
    os.close(owner._descriptor or -1)
    [path] = orphans(tmp_path / "s", "tag")
    with path.open("ab") as file:
        file.write(b"half a li")
    found = later.left_behind()
    assert found is not None
    assert other.left_behind() is None
    assert Spool(tmp_path / "s", "another", 1000).left_behind() is None
    assert found.read(10, 1000) == [b"1", b"2"]
    found.forget()
    assert found.read(10, 1000) == []
    found.forget()
    found.close()
    assert not path.exists()


def test_a_folder_that_others_may_enter_is_no_spool(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    with pytest.raises(PermissionError):
        Spool(tmp_path / "s", "tag", 1000).append([b"1"])


# --- cost


async def test_a_call_costs_little(tmp_path: Path) -> None:
    """The limit is 30 microseconds; twice of it here, for a machine that others use too."""
    client = Dominus("http://127.0.0.1:9", "t" * 43, home=str(tmp_path / "home"))
    info, context = client.logs.info, {"order": 42, "customer": "ada", "total": 12.5}
    best = min(timeit.repeat(lambda: info("order placed", context, category="orders"), number=500, repeat=8))
    client.logs._shipper._waiting.lines.clear()
    await client.aclose()
    assert best / 500 < 60e-6
