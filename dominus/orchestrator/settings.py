"""The orchestrator's settings, read from `DOMINUS_*` when it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from dominus.env_file import env_file
from dominus.errors import ValidationError

__all__ = ["MIN_PSK_LENGTH", "SERVE_RATE_LIMIT", "ServerSettings", "read_settings"]

MIN_PSK_LENGTH = 43
"""32 random bytes, urlsafe."""
SERVE_RATE_LIMIT = 2000.0
"""Requests per second and principal of `dominus serve`, unless the settings say otherwise."""


class ServerSettings(BaseSettings):
    """What `dominus dev`, `dominus serve` and the embedded mode stand on."""

    model_config = SettingsConfigDict(env_prefix="DOMINUS_", extra="ignore", hide_input_in_errors=True)

    home: Path = Path(".dominus")
    """Where the embedded engines and the keys made for them live, mode 0700."""
    database_url: SecretStr | None = None
    """`postgresql://...`; None: the embedded PostgreSQL under `home`."""
    redis_url: SecretStr | None = None
    """`redis://...`, `rediss://...` or `redis+cluster://...`; None: in this process."""
    master_key: SecretStr | None = None
    """32 bytes, base64. Several, comma separated: the first wraps, the others only unwrap (rotation)."""
    root_token: SecretStr | None = None
    """The PSK with every scope; 43 or more characters."""
    data_url: SecretStr | None = None
    """The same database as `database_url`, as a member of the data role alone; None: a login is made."""
    data_role: str = "dominus_data"
    """The PostgreSQL role under which users' statements run."""
    pool_size: int = Field(default=16, ge=1, le=500)
    """Connections to PostgreSQL of one worker, for users' statements; a quarter more for the system's own."""
    statement_timeout: float = Field(default=30.0, gt=0)
    """Seconds."""
    lock_timeout: float = Field(default=10.0, gt=0)
    """Seconds that a statement on users' tables waits for another transaction's lock."""
    max_body_bytes: int = Field(default=10 * 1024 * 1024, ge=1024)
    min_body_rate: int = Field(default=1024, ge=0)
    """Bytes per second that a body has to come with, on average over some seconds; 0: any."""
    write_stall: float = Field(default=30.0, gt=0)
    """Seconds in which a client has to read a part of a large answer, `min_body_rate` of each."""
    connections_per_address: int = Field(default=1000, ge=0)
    """Connections over HTTP from one address, of one worker; 0: any. Proxies in FORWARDED_ALLOW_IPS have no limit."""
    unfinished_per_address: int = Field(default=64, ge=0)
    """How many of them, and of the gateway's, may have sent no whole head or handshake; one more ends the oldest."""
    rate_limit: float | None = Field(default=None, gt=0)
    """Requests per second and principal, sustained, over all workers and replicas.

    None: SERVE_RATE_LIMIT for `dominus serve`; no limit for `dominus dev` and the embedded mode, whose only user is
    its own."""
    rate_burst: int = Field(default=5000, ge=1)
    failed_auth_per_minute: int = Field(default=60, ge=1)
    """Wrong tokens from one address before it gets 429."""
    token_lifetime: int = Field(default=900, ge=60, le=86_400)
    """Seconds."""
    signing_key_days: int = Field(default=30, ge=1)
    """A new signing key after so many days; the old one still verifies for a day."""
    idempotency_hours: int = Field(default=24, ge=1)
    """How long a repeat of a write to PostgreSQL gets the stored outcome."""
    redis_idempotency_minutes: int = Field(default=15, ge=1, le=1440)
    """The same for a write to Redis, after the end of its caller's deadline: TCP delivers late by so much at most."""
    allowed_hosts: str = ""
    """More names for the Host header of `dominus dev`, comma separated; for `serve` the only ones. `*`: any.

    Empty: `dev` answers to localhost, addresses, the name it listens on and the machine's own; `serve` to all."""
    shutdown_grace: float = Field(default=20.0, ge=0)
    """Seconds for requests in flight when the server stops."""
    metrics_open: bool = False
    """Show /metrics to anyone; `dominus dev` does on loopback."""
    request_log: bool = True
    """A structured line for each request, on the logger `dominus.access`."""
    gateway_port: int | None = Field(default=None, ge=0, le=65_535)
    """Where native sessions connect; 0: any free port. None: 3001 or a free one for `dominus dev`, none for `serve`."""
    gateway_host: str | None = None
    """The name under which clients reach the gateway; None: its address, or for all addresses the name of HTTP."""
    gateway_address: str | None = None
    """The address that the gateway listens on; None: the one of HTTP."""
    gateway_targets: str = ""
    """More databases by name: `legacy=tcp://db:1521 tigerbeetle=tcp://10.0.0.1:3000,10.0.0.2:3000`."""
    gateway_certfile: Path | None = None
    """The gateway's certificate chain, PEM; None: the one of `serve --ssl-certfile`, if any."""
    gateway_keyfile: Path | None = None
    gateway_connections: int = Field(default=4096, ge=1)
    """Open at a time, of one worker."""
    gateway_connections_per_principal: int = Field(default=200, ge=1)
    """Open at a time, of one worker; also the connections of one database login, and the logins of one principal."""
    gateway_idle: float = Field(default=3600.0, gt=0)
    """Seconds without a byte either way, after which a native connection is closed."""
    gateway_max_lifetime: float | None = Field(default=None, gt=0)
    """Seconds that a native connection may live, and a database login after its expiry; None: until it is closed."""
    gateway_login_lifetime: int = Field(default=900, ge=60, le=86_400)
    """Seconds in which a database login of a session opens connections."""
    gateway_redis_scripts: bool = False
    """Let sessions of a Redis server run scripts (EVAL, FCALL ...): one that loops holds up everyone for seconds."""
    open_address: str | None = None
    """`host` or `host:port` under which other programs reach PostgreSQL (`open.dsn`); None: that of `database_url`."""
    files_url: SecretStr | None = None
    """Where the bytes of files lie: `file:///folder`, or `s3://bucket/prefix?region=...&endpoint=...`.

    None: `files` under `home` for `dominus dev` and the embedded mode; `serve` keeps no files then."""
    files_link_url: str | None = Field(default=None, pattern=r"^https?://[!-~]+$")
    """How download links begin, `https://api.example.com`; None: as the caller reached the server."""
    log_retention_days: int = Field(default=30, ge=1, le=3650)
    """How long lines of programs are kept; whole days (UTC) are dropped."""
    log_forward_url: str | None = Field(default=None, pattern=r"^https?://[!-~]+$")
    """Where new lines of programs are posted besides."""
    log_forward_token: SecretStr | None = None
    """What is sent there as `Authorization: Bearer`."""
    log_forward_format: Literal["betterstack", "otlp"] = "betterstack"
    """What is posted: a JSON list of lines, or OTLP in JSON."""
    courier_backend: Literal["outbox", "smtp", "postmark"] = "outbox"
    """What takes mails; `outbox`: they stay in the outbox, for development."""
    courier_smtp_host: str | None = None
    courier_smtp_port: int | None = Field(default=None, ge=1, le=65_535)
    """None: 465 with `tls`, else 587."""
    courier_smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    """`starttls`: refused where the server has none; `none`: in clear, the password too."""
    courier_smtp_user: str | None = None
    courier_smtp_password: SecretStr | None = None
    courier_postmark_token: SecretStr | None = None
    courier_postmark_url: str = "https://api.postmarkapp.com"
    courier_postmark_stream: str = "outbound"
    courier_senders: str = ""
    """Who mails may be from: addresses and domains, comma separated; empty: anyone."""
    courier_concurrency: int = Field(default=4, ge=1, le=100)
    """Mails in flight at a time, of one worker."""
    courier_timeout: float = Field(default=60.0, gt=0, le=600)
    """Seconds for one try."""
    courier_retry_base: float = Field(default=5.0, gt=0)
    """Seconds before the second try; doubled each time, up to `courier_retry_cap`."""
    courier_retry_cap: float = Field(default=1800.0, gt=0)
    courier_give_up_hours: int = Field(default=24, ge=1, le=720)
    """A mail that no relay took for so long is dead."""
    courier_retention_days: int = Field(default=30, ge=1)
    """How long the outbox keeps mails after they were sent or given up."""
    portal_url: str | None = Field(default=None, pattern=r"^https?://[!-~]+$")
    """How the links in mails of the portal begin; None: http://localhost:3000 while mails stay in the outbox."""
    portal_name: str | None = Field(default=None, min_length=1, max_length=100)
    """What these mails call the product; None: the name of the project."""
    portal_sender: str | None = None
    """Who these mails are from; None: no-reply@localhost.localdomain while mails stay in the outbox."""
    portal_session_days: int = Field(default=30, ge=1, le=365)
    """A login ends after so many days, however often it is refreshed."""
    is_durable: bool = True
    """False only for tests: the embedded PostgreSQL does not wait for the disk."""


def read_settings(**given: Any) -> ServerSettings:
    """Read the server's settings from the environment, and the file that `DOMINUS_ENV_FILE` names; `given` values win.

    Raises:
        ValidationError: a value has the wrong form; the message names the variable and never shows it.
    """
    file = env_file()
    try:
        return ServerSettings(_env_file=file, _env_file_encoding="utf-8", **given)  # pyright: ignore[reportCallIssue]
    except pydantic.ValidationError as error:
        said = "; ".join(
            f"DOMINUS_{str(item['loc'][0]).upper()}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise ValidationError(said, code="settings") from None
