"""What the gateway leads to: the orchestrator's own engines, and databases that the settings name."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import parse_qs, unquote, urlsplit

from dominus.contract.sessions import scope_of
from dominus.errors import ValidationError
from dominus.orchestrator.gateway.upstream.connection import Address, RedisLogin, TcpAddress, UnixAddress
from dominus.orchestrator.gateway.upstream.postgres_tls import PostgresAddress, tls_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.redis.client import RedisEngine
    from dominus.orchestrator.identity.principal import Principal

__all__ = ["Client", "Screen", "Target", "builtin_targets", "parse_targets"]

POSTGRES_PORT, REDIS_PORT = 5432, 6379
MAX_ADDRESSES = 64
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}", re.ASCII)
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})", re.ASCII)
_VARIABLE = "DOMINUS_GATEWAY_TARGETS"
_HINT = "for example: tigerbeetle=tcp://10.0.0.1:3000,10.0.0.2:3000 legacy=tls://db:1521 local=unix:///run/db.sock"


class Client(Protocol):
    """A connection whose handshake is done."""

    @property
    def rest(self) -> bytes:
        """What it said to the database."""
        ...

    async def more(self) -> None:
        """Wait until it has said more. Raises ConnectionError."""
        ...

    def skip(self, count: int) -> None:
        """Keep so many bytes of it from the database."""
        ...

    def answer(self, data: bytes) -> None:
        """Send it something."""
        ...


class Screen(Protocol):
    """Decides about a client by what it says to the database."""

    async def admit(self, client: Client, principal: Principal) -> None:
        """Return when the client may go on. Raises DominusError, or ConnectionError when it hangs up."""
        ...

    def goodbye(self, code: str, message: str) -> bytes:
        """Return a refusal as the database would say it."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """A database that native connections may reach."""

    name: str
    addresses: tuple[Address, ...]
    """One endpoint each; a client names which."""
    login: RedisLogin | None = field(default=None, repr=False)
    """How the gateway itself logs in, for clients that have no credentials."""
    screen: Screen | None = field(default=None, repr=False, compare=False)
    """Hears a client's first words before the database does; None: all goes through as it is."""

    @property
    def scope(self) -> str:
        """The scope that a session needs; `*` covers it."""
        return scope_of(self.name)


def parse_targets(text: str) -> dict[str, Target]:
    """Read `name=tcp://host:port,host:port name=unix:///path ...`.

    Raises:
        ValidationError: it has another form; the message names the place and shows no more than the name.
    """
    targets: dict[str, Target] = {}
    for place, entry in enumerate(text.split(), 1):
        name, equals, url = entry.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise _wrong(f"entry {place} does not begin with a name and '='")
        if name in targets:
            raise _wrong(f"{name!r} is named twice")
        targets[name] = Target(name, _addresses(name, url))
    return targets


def builtin_targets(dsn: str, redis_url: str | None, redis: RedisEngine) -> dict[str, Target]:
    """Return the orchestrator's own engines as targets: `postgres`, and `redis` unless that is a cluster.

    Args:
        dsn: of PostgreSQL.
        redis_url: None: inside this process.
        redis: what sessions see of it.
    """
    targets = {"postgres": Target("postgres", _postgres_addresses(dsn))}
    if redis_url is None:
        from dominus.orchestrator.engines.redis.embedded import embedded_server
        from dominus.orchestrator.gateway.upstream.embedded_redis import FakeRedisAddress

        targets["redis"] = Target("redis", (FakeRedisAddress(embedded_server(redis.server_key or "")),))
    elif not urlsplit(redis_url).scheme.endswith("+cluster"):
        # A cluster redirects its clients to nodes that they would have to reach by themselves.
        targets["redis"] = _redis_target(redis_url)
    return targets


def _wrong(what: str) -> ValidationError:
    return ValidationError(f"{_VARIABLE}: {what}", code="settings", hint=_HINT)


def _addresses(name: str, url: str) -> tuple[Address, ...]:
    scheme, separator, rest = url.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return (UnixAddress(rest),)
    if not separator or scheme not in ("tcp", "tls"):
        raise _wrong(f"{name!r} needs tcp://, tls:// or unix:///")
    tls = ssl.create_default_context() if scheme == "tls" else None
    parts = rest.split(",")
    if len(parts) > MAX_ADDRESSES:
        raise _wrong(f"{name!r} has more than {MAX_ADDRESSES} addresses")
    addresses: list[Address] = []
    for place, part in enumerate(parts, 1):
        found = _ADDRESS.fullmatch(part)
        if found is None or not 0 < int(found["port"]) < 65_536:
            raise _wrong(f"address {place} of {name!r} is no host:port")
        addresses.append(TcpAddress(found["host"].strip("[]"), int(found["port"]), tls))
    return tuple(addresses)


def _postgres_addresses(dsn: str) -> tuple[Address, ...]:
    """Read where a libpq URL leads: several hosts, sockets' folders, and `host` and `port` in the query."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    places = parts.netloc.rpartition("@")[2].split(",")
    split = [_split_port(place) for place in places]
    hosts = query["host"][-1].split(",") if "host" in query else [host for host, _ in split]
    ports = query["port"][-1].split(",") if "port" in query else [port for _, port in split]
    addresses: list[Address] = []
    tls, is_required = tls_of(query)
    for place, host in enumerate(hosts):
        port = int((ports[place] if place < len(ports) else ports[-1]) or POSTGRES_PORT)
        name = unquote(host) or "localhost"
        addresses.append(
            UnixAddress(f"{name}/.s.PGSQL.{port}")
            if name.startswith("/")
            else PostgresAddress(name, port, tls, is_required)
        )
    return tuple(addresses)


def _split_port(place: str) -> tuple[str, str]:
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        return host, rest.removeprefix(":")
    host, _, port = place.partition(":")
    return host, port


def _redis_target(url: str) -> Target:
    from redis.connection import SSLConnection, parse_url  # pyright: ignore[reportUnknownVariableType]

    given: Mapping[str, Any] = cast("Any", parse_url)(url)
    address: Address
    if "path" in given:
        address = UnixAddress(given["path"])
    else:
        is_tls = given.get("connection_class") is SSLConnection
        address = TcpAddress(
            given.get("host", "localhost"),
            given.get("port", REDIS_PORT),
            _redis_tls(given) if is_tls else None,
        )
    login = RedisLogin(given.get("username"), given.get("password"), int(given.get("db", 0)))
    return Target("redis", (address,), login if login.commands else None)


def _redis_tls(given: Mapping[str, Any]) -> ssl.SSLContext:
    """Trust what redis-py trusts under the same URL."""
    context = ssl.create_default_context(cafile=given.get("ssl_ca_certs"), capath=given.get("ssl_ca_path"))
    if str(given.get("ssl_check_hostname", "true")).lower() in ("false", "0", "no"):
        context.check_hostname = False
    if str(given.get("ssl_cert_reqs", "required")).lower() in ("none", "optional"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if given.get("ssl_certfile"):
        context.load_cert_chain(
            given["ssl_certfile"], given.get("ssl_keyfile"), given.get("ssl_password") or ""
        )
    return context
