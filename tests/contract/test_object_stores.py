"""One suite for every object store: a local folder, and S3 as moto's server speaks it."""

from __future__ import annotations

from pathlib import Path

import pytest
from s3_support import s3_url

from dominus.errors import ServiceError, ValidationError
from dominus.orchestrator.engines.objects.store import Objects, objects_at

__all__ = ["s3_url"]


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return objects_at(f"file://{tmp_path}/store%20of%20files")
    return objects_at(request.getfixturevalue("s3_url"))


async def test_what_is_put_is_read_in_ranges_replaced_and_deleted(objects: Objects) -> None:
    await objects.put("ab/one/00000-x", b"0123456789")
    await objects.put("ab/one/00001-x", bytearray(b"last"))
    await objects.put("ab/two/00000-x", b"other")
    assert await objects.get("ab/one/00000-x", 2, 5) == b"234"
    assert await objects.get("ab/one/00001-x", 0, 4) == b"last"
    await objects.put("ab/one/00000-x", b"new")
    assert await objects.get("ab/one/00000-x", 0, 3) == b"new"
    await objects.delete_under("ab/one")
    await objects.delete_under("ab/one")
    assert await objects.get("ab/two/00000-x", 0, 5) == b"other"
    with pytest.raises(ServiceError) as caught:
        await objects.get("ab/one/00000-x", 0, 3)
    assert caught.value.code == "file_damaged"
    assert "prefix" not in str(caught.value)


async def test_a_store_that_does_not_answer_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    away = objects_at("s3://bucket?region=us-east-1&endpoint=http://127.0.0.1:9")
    with pytest.raises(ServiceError) as caught:
        await away.put("x", b"x")
    assert (caught.value.code, caught.value.status_code) == ("files_unavailable", 503)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/folder",
        "ftp://host/x",
        "s3://",
        "s3://key:secret@bucket/x",
        "s3://bucket?secret_access_key=x",
        "file://",
    ],
)
def test_what_is_no_store_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        objects_at(url)
    assert "secret" not in str(caught.value)
