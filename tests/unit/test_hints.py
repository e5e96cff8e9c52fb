"""Slips that say how it is written right: a wrong name, a wrong statement, a wrong first argument."""

from __future__ import annotations

import asyncio
import copy
import inspect
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from dominus import Dominus, DominusError, ValidationError, dominus
from dominus.hints import install_command, shell_command
from dominus.testing import ScriptedTransport, ok

URL, TOKEN = "https://dominus.test", "t" * 43


def client(*script: Any) -> Dominus:
    return Dominus(URL, TOKEN, transport=ScriptedTransport(*script))


async def with_lock():
    with dominus.redis.lock("job", ttl=60):
        pass


async def await_lock():
    await dominus.redis.lock("job", ttl=60)


async def with_session():
    with dominus.sessions.redis():
        pass


async def await_session():
    await dominus.sessions.postgres()


async def async_with_sync_session():
    async with dominus.sessions.redis.sync():
        pass


async def await_iterate():
    await dominus.db.iterate("t")


async def for_iterate():
    for _ in dominus.db.iterate("t"):
        pass


async def await_scan():
    await dominus.redis.scan_iter("k")


async def async_with_deadline():
    async with dominus.deadline(2.0):
        pass


async def with_client():
    with Dominus(URL, TOKEN):
        pass


@pytest.mark.parametrize(
    ("slip", "wrong", "right"),
    [
        (with_lock, "`with`", "async with dominus.redis.lock("),
        (await_lock, "`await`", "async with dominus.redis.lock("),
        (with_session, "`with`", "async with"),
        (await_session, "`await`", "session.connect()"),
        (async_with_sync_session, "`async with`", "with ... as client:"),
        (await_iterate, "`await`", "async for"),
        (for_iterate, "`for`", "async for"),
        (await_scan, "`await`", "async for"),
        (async_with_deadline, "`async with`", "with dominus.deadline(2.0):"),
        (with_client, "`with`", "async with Dominus("),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_wrong_statement_says_the_right_one(slip: Any, wrong: str, right: str):
    with pytest.raises(ValidationError) as caught:
        await slip()
    assert isinstance(caught.value, TypeError)
    assert wrong in caught.value.message
    assert right in str(caught.value.hint)


async def test_what_is_iterated_stays_an_iterator():
    page = {"items": [{"id": 1}, {"id": 2}], "cursor": None}
    one = client(ok(page)).db.iterate("t")
    assert [row["id"] async for row in one] == [1, 2]
    two = client(ok(page)).db.iterate("t")
    assert await anext(two) == {"id": 1}
    await two.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(two)
    assert "page_size" in inspect.signature(dominus.db.iterate).parameters


@pytest.mark.parametrize(
    ("where", "name", "meant"),
    [
        (lambda: dominus.db, "select", "query"),
        (lambda: dominus.db, "fetch", "query"),
        (lambda: dominus.db, "updte", "update"),
        (lambda: dominus.db, "add", "insert"),
        (lambda: dominus.db, "upsert", "insert"),
        (lambda: dominus.ddl, "create", "add_table"),
        (lambda: dominus.redis, "gett", "get"),
        (lambda: dominus.secrets, "read", "get"),
        (lambda: dominus, "databse", "db"),
        (lambda: dominus, "database", "db"),
        (lambda: dominus, "cache", "redis"),
        (lambda: dominus, "session", "sessions"),
        (lambda: dominus, "secret", "secrets"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(where: Any, name: str, meant: str):
    with pytest.raises(AttributeError, match=rf"did you mean '{meant}'\?"):
        getattr(where(), name)


def test_an_unknown_name_without_a_near_one_says_what_is_there():
    with pytest.raises(AttributeError, match=r"no 'xyzzy'; it has .*ping"):
        dominus.health.xyzzy  # noqa: B018


def test_names_of_python_s_own_are_no_suggestions():
    assert not hasattr(dominus.db, "__wrapped__")
    assert copy.copy(dominus.db)._caller is dominus.db._caller
    assert copy.copy(dominus)._caller is dominus._caller
    assert not hasattr(dominus, "_repr_html_")
    with pytest.raises(AttributeError, match=r"_ipython_display_'$"):
        dominus.db._ipython_display_  # noqa: B018


def test_a_namespace_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch):
    import dominus.namespaces.health as module

    monkeypatch.delattr(module, "Health")
    with pytest.raises(ImportError, match="Health"):
        _ = client().health

    class Broken(Dominus):
        @property
        def thing(self) -> None:
            raise AttributeError("the thing's own")

    with pytest.raises(AttributeError, match="the thing's own"):
        _ = Broken().thing


@pytest.mark.parametrize("first", ["t", TOKEN, "dominus.example", "localhost:8000", "ftp://x", 7])
def test_a_first_argument_that_is_no_url_is_named_at_once_and_not_shown(first: Any):
    with pytest.raises(ValidationError, match="the first argument") as caught:
        Dominus(first)
    assert caught.value.code == "url_malformed"
    said = str(caught.value.hint)
    if first in {"t", TOKEN}:
        assert "did you mean Dominus(token=...)?" in said
        assert TOKEN not in str(caught.value)
    else:
        assert "http://" in said


@pytest.mark.parametrize("nothing", [None, ""])
async def test_no_url_is_still_said_by_the_first_call(nothing: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DOMINUS_URL", raising=False)
    with pytest.raises(DominusError, match="DOMINUS_URL is not set"):
        await Dominus(nothing, TOKEN).health.ping()


def test_a_command_is_named_as_it_can_be_typed_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    program = tmp_path / ".venv" / "bin" / "dominus"
    program.parent.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    monkeypatch.setenv("PATH", "/no/such/folder")
    assert shell_command("dev") == ".venv/bin/python -m dominus dev"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert shell_command("dev") == ".venv/bin/dominus dev"
    monkeypatch.setenv("PATH", str(program.parent))
    assert shell_command("dev") == "dominus dev"


def test_a_deadline_still_bounds_its_block():
    async def call() -> None:
        with dominus.deadline(0.5):
            await dominus.health.ping()

    with pytest.raises(DominusError):
        asyncio.run(call())


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ('{"url": "file://{here}", "dir_info": {"editable": true}}', "python -m pip install '.[sessions]'"),
        ('{"url": "file://{here}/sub%20folder"}', "python -m pip install 'sub folder[sessions]'"),
        ('{"url": "file:///no/such/folder"}', "python -m pip install 'dominus-sdk[sessions]'"),
        ('{"url": "https://example.com/dominus_sdk.whl"}', "python -m pip install 'dominus-sdk[sessions]'"),
        ("broken", "python -m pip install 'dominus-sdk[sessions]'"),
        (None, "python -m pip install 'dominus-sdk[sessions]'"),
    ],
)
def test_an_extra_is_installed_from_where_the_package_came(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, record: str | None, said: str
):
    (tmp_path / "sub folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    found = record and record.replace("{here}", str(tmp_path))
    monkeypatch.setattr(metadata.PathDistribution, "read_text", lambda *_: found)
    assert install_command("sessions") == said
