"""Nothing secret is in a repr, a log line, an error or the statistics."""

from __future__ import annotations

import logging
import traceback

import httpx
import pytest
from conftest import TOKEN, URL, MakeRig

from dominus import Dominus
from dominus.errors import DominusError
from dominus.settings import Settings
from dominus.testing import failure, ok, raises, raw

JWT = "jwt-that-nobody-may-see"
MINT = ok({"access_token": JWT, "expires_in": 900})
VALUE = "value-of-a-secret"


def assert_clean(text: str) -> None:
    for secret in (TOKEN, JWT, VALUE):
        assert secret not in text


def test_nothing_that_is_shown_holds_the_token():
    settings = Settings(url=URL, token=TOKEN)
    client = Dominus(settings=settings)
    for thing in (
        client,
        client.as_user(JWT),
        client.redis,
        client.secrets,
        client._caller,
        client._caller.core,
        settings,
        client._caller.shared,
        client.stats(),
    ):
        assert_clean(f"{thing!r} {thing!s}")


async def test_pipeline_and_credentials_hide_it_too(make_rig: MakeRig):
    rig = make_rig(ok({"found": False}), mints=(MINT,))
    await rig.client.redis.get("k")
    pipeline = await rig.client._caller.core.pipeline()
    for thing in (pipeline, pipeline.credentials, pipeline.box, pipeline._wire):
        assert_clean(repr(thing))


@pytest.mark.parametrize(
    "answer",
    [
        failure(401),
        failure(403),
        failure(500),
        raw(b"<html>"),
        raw(b"{"),
        raises(httpx.ConnectError("refused")),
        raises(httpx.ReadTimeout("")),
        raw(b"", 302),
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["mint", "call"])
async def test_no_failure_tells_it_in_error_traceback_or_log(
    make_rig: MakeRig, answer: object, where: str, caplog: pytest.LogCaptureFixture
):
    rig = make_rig(default=answer, mints=(answer,) * 50 if where == "mint" else (MINT,) * 9)
    with caplog.at_level(logging.DEBUG), pytest.raises(DominusError) as caught:
        await rig.client.secrets.upsert("K", VALUE)
    error = caught.value
    assert_clean(caplog.text)
    assert_clean(f"{error!s} {error!r} {error.__dict__}")
    assert_clean("".join(traceback.format_exception(error)))


@pytest.mark.parametrize(
    "url", [f"https://{TOKEN}@host", f"https://host?token={TOKEN}", f"https://host#{TOKEN}"]
)
async def test_a_secret_in_the_url_is_not_repeated(url: str):
    with pytest.raises(DominusError) as caught:
        await Dominus(url, TOKEN).redis.get("k")
    assert_clean(str(caught.value))


@pytest.mark.parametrize(
    "answer",
    [
        failure(401, f"unknown token {TOKEN}", details={"token": TOKEN}),
        failure(401, code=TOKEN),
        raw(b'{"success":false,"error":"no","request_id":"%b"}' % TOKEN.encode(), 401),
    ],
    ids=["message", "code", "request_id"],
)
async def test_a_server_that_echoes_the_token_does_not_get_it_into_our_error(
    make_rig: MakeRig, answer: object
):
    rig = make_rig(mints=(answer,))
    with pytest.raises(DominusError) as caught:
        await rig.client.redis.get("k")
    error = caught.value
    assert_clean(f"{error!s} {error!r} {error.__dict__}")
