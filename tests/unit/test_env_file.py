"""`DOMINUS_ENV_FILE`: read where it is named, and only there; the environment wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from dominus import ValidationError
from dominus.orchestrator.settings import read_settings
from dominus.settings import load_settings

TOKEN = "token-of-a-file-0123456789-0123456789-0123456789"


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the working folder, which nothing names yet."""
    for name in ("DOMINUS_URL", "DOMINUS_TOKEN", "DOMINUS_ENV_FILE", "CB_PROJECT_SLUG", "DOMINUS_POOL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".env"
    path.write_text(
        f"# of the laptop\nDOMINUS_URL=http://127.0.0.1:8700\nexport DOMINUS_TOKEN='{TOKEN}'\n"
        "CB_PROJECT_SLUG=shop\nDOMINUS_POOL_SIZE=3\nOTHER=1\n"
    )
    return path


def test_a_file_that_is_not_named_is_not_read():
    assert load_settings().url is None
    assert read_settings().pool_size == 16


@pytest.mark.parametrize("name", [".env", "{file}"])
def test_a_named_file_is_read_by_client_and_server(file: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv("DOMINUS_ENV_FILE", name.format(file=file))
    settings = load_settings()
    assert settings.url == "http://127.0.0.1:8700"
    assert settings.checked_token() == TOKEN
    assert settings.project == "shop"
    assert read_settings().pool_size == 3


def test_the_environment_and_arguments_win(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOMINUS_ENV_FILE", ".env")
    monkeypatch.setenv("DOMINUS_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("DOMINUS_POOL_SIZE", "5")
    assert load_settings().url == "http://127.0.0.1:1"
    assert load_settings(url="embedded").url == "embedded"
    assert read_settings().pool_size == 5
    assert read_settings(pool_size=7).pool_size == 7


@pytest.mark.parametrize("name", ["nowhere/.env", ".", "bytes"])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    (tmp_path / "bytes").write_bytes(b"DOMINUS_TOKEN=\xff\xfe")
    monkeypatch.setenv("DOMINUS_ENV_FILE", name)
    for read in (load_settings, read_settings):
        with pytest.raises(ValidationError, match=r"DOMINUS_ENV_FILE names /.*cannot be read"):
            read()


def test_a_wrong_value_in_a_file_is_named_without_the_value(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOMINUS_ENV_FILE", str(file))
    file.write_text("DOMINUS_TIMEOUT=s3cret-value\n")
    with pytest.raises(ValidationError, match="DOMINUS_TIMEOUT") as caught:
        load_settings()
    assert "s3cret-value" not in str(caught.value)
