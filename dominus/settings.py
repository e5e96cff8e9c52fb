"""The client's settings, read at the first call and never at import."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import pydantic
from pydantic import AliasChoices, Field, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

from dominus.env_file import env_file
from dominus.errors import AuthenticationError, ValidationError
from dominus.hints import shell_command

__all__ = ["EMBEDDED", "Settings", "load_settings"]

EMBEDDED = "embedded"
"""The URL of the orchestrator inside this process."""
MIN_TOKEN_LENGTH = 32
"""What the servers of the published client give out at least."""
# urlsplit drops line ends and keeps blanks; a query, a fragment or a user have no place in a base URL.
_URL_TEXT = re.compile(r"[!-~]+", re.ASCII)
_URL_REST = re.compile(r"[?#@\\]")
_log = logging.getLogger("dominus")

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Partition = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{0,64}$")]


class Settings(BaseSettings):
    """How a client reaches its orchestrator. Durations are seconds."""

    model_config = SettingsConfigDict(
        env_prefix="DOMINUS_", extra="ignore", frozen=True, hide_input_in_errors=True, populate_by_name=True
    )

    token: SecretStr | None = None
    """The pre-shared key (PSK)."""
    url: str | None = Field(default=None, validation_alias=AliasChoices("DOMINUS_URL", "DOMINUS_BASE_URL"))
    """`http(s)://host[:port]`, or `embedded`."""
    project: Partition | None = Field(
        default=None, validation_alias=AliasChoices("CB_PROJECT_SLUG", "DOMINUS_PROJECT")
    )
    environment: Partition | None = Field(
        default=None, validation_alias=AliasChoices("CB_ENVIRONMENT", "DOMINUS_ENVIRONMENT")
    )
    home: Path = Path(".dominus")
    """Where the embedded orchestrator keeps its data."""
    timeout: Seconds = 30.0
    """The deadline of a call that names none."""
    cold_start_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    cold_after_idle: Seconds = 300.0
    connect_timeout: Seconds = 5.0
    max_attempts: Annotated[int, Field(ge=1, le=20)] = 4
    backoff_base: Seconds = 0.05
    backoff_cap: Seconds = 5.0
    retry_budget: Annotated[float, Field(ge=0)] = 500.0
    breaker_threshold: Annotated[int, Field(ge=1)] = 5
    breaker_reset: Seconds = 30.0
    """The longest wait between two probes of a service that fails; the first come after 0.25, 0.5, 1, 2 ... seconds."""
    fail_fast: bool = False
    """Calls do not wait for a service that fails until it is tried again: CircuitOpenError at once."""
    max_connections: Annotated[int, Field(ge=1)] = 100
    max_response_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024
    log_buffer: Annotated[int, Field(ge=1000, le=1_000_000)] = 10_000
    """Log lines that wait in memory."""
    log_spool: Path | None = None
    """The folder of log lines while the orchestrator is away; None: `spool` in `home`."""
    log_spool_bytes: Annotated[int, Field(ge=0)] = 64 * 1024 * 1024
    """Of all log lines that wait there; 0: none are kept on disk."""
    log_redact: str = ""
    """More words of keys whose values are not logged, comma separated; `!word` takes a word of ours away."""

    @property
    def is_embedded(self) -> bool:
        """Whether the orchestrator runs inside this process."""
        return self.url == EMBEDDED

    @property
    def is_mere_loopback(self) -> bool:
        """Whether the server is on this machine, and nobody chose how long its start is waited for."""
        host = urlsplit(self.url or "").hostname or ""
        return _is_loopback(host) and "cold_start_timeout" not in self.model_fields_set

    def checked_url(self) -> str:
        """Return the base URL without a trailing slash.

        Raises:
            ValidationError: none is set, or it is no http URL.
        """
        if not self.url:
            raise ValidationError("DOMINUS_URL is not set", code="url_missing", hint=_how())
        fault = _url_fault(self.url)
        if fault is not None:
            raise ValidationError(f"DOMINUS_URL, or url=, {fault}", code="url_malformed", hint=_how())
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            _log.warning("DOMINUS_URL is plain http to another machine: the token travels unencrypted")
        return self.url.rstrip("/")

    def checked_token(self) -> str:
        """Return the PSK.

        Raises:
            AuthenticationError: none is set, or it cannot be one.
        """
        token = self.token.get_secret_value() if self.token else ""
        if not token:
            raise AuthenticationError("DOMINUS_TOKEN is not set", code="token_missing", hint=_how())
        fault = _token_fault(token)
        if fault is not None:
            raise AuthenticationError(
                f"DOMINUS_TOKEN, or token=, is malformed: {fault}",
                code="token_malformed",
                hint="copy it again; the one of `dominus dev` is in .dominus/token",
            )
        return token


def load_settings(**options: Any) -> Settings:
    """Read the environment, and the file that `DOMINUS_ENV_FILE` names; `options` that are not None win.

    Raises:
        ValidationError: a value has the wrong form; the message names the variable and never shows it.
    """
    chosen = {name: value for name, value in options.items() if value is not None}
    file = env_file()
    try:
        return Settings(_env_file=file, _env_file_encoding="utf-8", **chosen)  # pyright: ignore[reportCallIssue]
    except pydantic.ValidationError as error:
        said = "; ".join(
            f"{_variable(str(item['loc'][0]))}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise ValidationError(said, code="settings") from None


def _how() -> str:
    return (
        f"on a laptop run `{shell_command('dev')}` and paste the two export lines that it prints, "
        "or set DOMINUS_URL=embedded for an orchestrator inside this process"
    )


def _variable(place: str) -> str:
    return place if place.isupper() else f"DOMINUS_{place.upper()}"


def _url_fault(url: str) -> str | None:
    """Say what is wrong with a URL without showing it: a password may stand in it."""
    if not _URL_TEXT.fullmatch(url):
        return "has a blank, a line end or another character that no URL has"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "has a malformed host or port"
    if parts.scheme not in {"http", "https"}:
        return "must begin with http:// or https://, or be `embedded`"
    if _URL_REST.search(url):
        return "must be https://host:port, without a user, a query or a fragment"
    return None if _is_host(parts.hostname or "") and port != 0 else "has a malformed host or port"


def _token_fault(token: str) -> str | None:
    """Say what is wrong with a token without showing it."""
    if token != token.strip():
        return "it begins or ends with a blank or a line end"
    if not token.isascii() or not token.isprintable() or " " in token:
        return "it has blanks, or characters that are not printable ASCII"
    if len(token) < MIN_TOKEN_LENGTH:
        return f"it has {len(token)} characters, a token has {MIN_TOKEN_LENGTH} or more"
    return None


def _is_host(host: str) -> bool:
    return ":" in host or all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.") or host.endswith(".localhost")
