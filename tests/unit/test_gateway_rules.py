"""The gateway's settings, and its decisions without any connection."""

from __future__ import annotations

import fnmatch
import ssl

import pytest

from dominus.errors import ValidationError
from dominus.orchestrator.gateway.limits import Admission, Limits, Quiet, why_end
from dominus.orchestrator.gateway.logins import redis as redis_logins
from dominus.orchestrator.gateway.upstream.connection import RedisLogin, TcpAddress, UnixAddress
from dominus.orchestrator.gateway.upstream.postgres_tls import PostgresAddress, tls_of
from dominus.orchestrator.gateway.upstream.targets import Target, builtin_targets, parse_targets
from dominus.orchestrator.services import redis as service

LIMITS = Limits(idle=100, half_closed=20, linger=10, max_lifetime=1000, connections=3, per_principal=2)


def test_targets_are_read_with_all_their_addresses() -> None:
    found = parse_targets(
        "tigerbeetle=tcp://10.0.0.1:3000,10.0.0.2:3001 legacy=tls://db.example:1521 v6=tcp://[::1]:1 sock=unix:///run/x"
    )
    assert found["tigerbeetle"].addresses == (TcpAddress("10.0.0.1", 3000), TcpAddress("10.0.0.2", 3001))
    assert found["v6"].addresses == (TcpAddress("::1", 1),)
    assert found["sock"].addresses == (UnixAddress("/run/x"),)
    (legacy,) = found["legacy"].addresses
    assert isinstance(legacy, TcpAddress)
    assert legacy.tls is not None
    assert legacy.tls.verify_mode is ssl.CERT_REQUIRED
    assert found["legacy"].scope == "gateway:legacy"
    assert parse_targets("  ") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "entry 1"),
        ("a=tcp://h:1 =tcp://h:1", "entry 2"),
        ("A=tcp://h:1", "entry 1"),
        ("a=tcp://h:1 a=tcp://h:2", "twice"),
        ("a=http://h:1", "needs tcp://"),
        ("a=tcp://", "address 1"),
        ("a=tcp://h", "address 1"),
        ("a=tcp://h:0", "address 1"),
        ("a=tcp://h:70000", "address 1"),
        ("a=tcp://h:1,", "address 2"),
        ("a=tcp://user:s3cret@h:1", "address 1"),
        ("a=unix://relative", "needs tcp://"),
        ("a=tcp://" + ",".join(["h:1"] * 65), "more than 64"),
    ],
)
def test_wrong_targets_are_named_without_showing_more(text: str, said: str) -> None:
    with pytest.raises(ValidationError, match="DOMINUS_GATEWAY_TARGETS") as caught:
        parse_targets(text)
    assert said in caught.value.message
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "addresses"),
    [
        ("postgresql://u:p@db.example/d", [("db.example", 5432, False)]),
        ("postgresql://u:p@db:6432/d?sslmode=require", [("db", 6432, True)]),
        ("postgresql://u:p@/d?host=/run/a%20b&port=5433", ["/run/a b/.s.PGSQL.5433"]),
        ("postgresql://u:p@a:1,b:2/d", [("a", 1, False), ("b", 2, False)]),
        ("postgresql://u:p@[::1]:7/d", [("::1", 7, False)]),
        ("postgresql://u:p@%2Frun%2Fpg/d", ["/run/pg/.s.PGSQL.5432"]),
        ("postgresql:///d", [("localhost", 5432, False)]),
    ],
)
def test_postgres_is_found_where_its_url_says(dsn: str, addresses: list[object]) -> None:
    found = builtin_targets(dsn, "redis://h", None)  # type: ignore[arg-type]
    assert [_place(address) for address in found["postgres"].addresses] == addresses


def _place(address: object) -> object:
    if isinstance(address, PostgresAddress):
        return (address.host, address.port, address.is_tls_required)
    return address.path if isinstance(address, UnixAddress) else address


@pytest.mark.parametrize(
    ("mode", "verifies", "checks_name", "is_required"),
    [
        ("prefer", False, False, False),
        ("require", False, False, True),
        ("verify-ca", True, False, True),
        ("verify-full", True, True, True),
    ],
)
def test_tls_to_postgres_is_as_strict_as_its_url(
    mode: str, verifies: bool, checks_name: bool, is_required: bool
) -> None:
    context, required = tls_of({"sslmode": [mode]})
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode is ssl.CERT_REQUIRED, context.check_hostname) == (verifies, checks_name)
    assert required is is_required
    assert tls_of({"sslmode": ["disable"]}) == (None, False)


@pytest.mark.parametrize(
    ("url", "address", "commands"),
    [
        ("redis://cache", TcpAddress("cache", 6379), []),
        ("redis://:pw@cache:1/2", TcpAddress("cache", 1), [["AUTH", "pw"], ["SELECT", "2"]]),
        ("redis://me:p%40w@cache", TcpAddress("cache", 6379), [["AUTH", "me", "p@w"]]),
        ("unix:///run/redis.sock", UnixAddress("/run/redis.sock"), []),
    ],
)
def test_redis_is_found_where_its_url_says(url: str, address: object, commands: list[list[str]]) -> None:
    redis: Target = builtin_targets("postgresql:///d", url, None)["redis"]  # type: ignore[arg-type]
    assert redis.addresses == (address,)
    assert (redis.login.commands if redis.login else []) == commands


def test_redis_over_tls_is_trusted_as_its_url_says() -> None:
    def context(url: str) -> ssl.SSLContext:
        (address,) = builtin_targets("postgresql:///d", url, None)["redis"].addresses  # type: ignore[arg-type]
        assert isinstance(address, TcpAddress)
        assert address.tls is not None
        return address.tls

    assert context("rediss://h").verify_mode is ssl.CERT_REQUIRED
    assert context("rediss://h").check_hostname
    assert context("rediss://h?ssl_cert_reqs=none").verify_mode is ssl.CERT_NONE


def test_a_cluster_is_no_target() -> None:
    assert "redis" not in builtin_targets("postgresql:///d", "redis+cluster://h:1", None)  # type: ignore[arg-type]


def test_a_login_never_shows_its_password() -> None:
    login = RedisLogin("me", "s3cret")
    assert "s3cret" not in repr(login) + repr(Target("redis", (), login))


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (Quiet(age=0, quiet_for=0), None),
        (Quiet(age=999, quiet_for=99), None),
        (Quiet(age=1000, quiet_for=0), "lifetime"),
        (Quiet(age=100, quiet_for=100), "idle"),
        (Quiet(age=20, quiet_for=19, is_half_closed=True), None),
        (Quiet(age=20, quiet_for=20, is_half_closed=True), "half_closed"),
        (Quiet(age=5000, quiet_for=9, is_closing=True), None),
        (Quiet(age=5000, quiet_for=10, is_closing=True), "lingering"),
    ],
)
def test_a_connection_ends_for_a_reason(state: Quiet, why: str | None) -> None:
    assert why_end(state, LIMITS) == why


def test_no_lifetime_is_no_limit() -> None:
    assert why_end(Quiet(age=1e9, quiet_for=0), Limits()) is None


def test_admission_counts_by_subject_and_in_all() -> None:
    admission = Admission(LIMITS)
    admission.enter("a")
    admission.enter("a")
    refused = admission.why_not("a")
    assert refused is not None
    assert refused[0] == "too_many_connections"
    assert admission.why_not("b") is None
    admission.enter("b")
    assert admission.why_not("c") == ("gateway_full", "the gateway has no room for another connection")
    admission.leave("a")
    assert admission.why_not("a") is None
    assert admission.count == 2


def test_the_names_of_the_orchestrator_in_redis_are_none_of_a_sessions() -> None:
    globs = list(redis_logins._patterns_beside(*redis_logins.OWN_PREFIXES))

    def is_a_sessions(name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, glob.replace("[^", "[!")) for glob in globs)

    for space in (service._ENTRY, service._LOCK, service._FENCE, service._ONCE):
        for rest in ("", "{", "{shop:production::k}", "\n"):
            assert not is_a_sessions(space + rest)
    for start in range(len("dominus")):
        assert is_a_sessions("dominus"[: start + 1])
        assert is_a_sessions("dominus"[:start] + "_" + "dominus:"[start:])
    for name in ("x", "dominus_app:1", "dominusx", "Dominus:x", "app:dominus:x", " dominus:", "\xff"):
        assert is_a_sessions(name)
