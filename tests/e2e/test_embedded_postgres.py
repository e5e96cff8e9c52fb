"""The embedded PostgreSQL: closed to others, gone with its process, back after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from dominus.errors import ConflictError, ServiceError
from dominus.orchestrator.engines.postgres import account as pgaccount
from dominus.orchestrator.engines.postgres import cluster
from dominus.orchestrator.engines.postgres import embedded as pgserver
from dominus.orchestrator.engines.postgres.account import SERVER_ID, find_accounts
from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres
from dominus.orchestrator.engines.postgres.process import postmaster_of

is_root = os.geteuid() == 0
only_root = pytest.mark.skipif(not is_root, reason="changes accounts, so it needs root")

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the deadline passed"
        threading.Event().wait(0.01)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


def ask(dsn: str, query: str, **options: Any) -> Any:
    async def one() -> Any:
        connection = await asyncpg.connect(dsn, timeout=10, **options)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(one())


def execute(dsn: str, *statements: str) -> None:
    async def all_of_them() -> None:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(all_of_them())


def pid_of(home: Path) -> int:
    pid = postmaster_of(home / "postgres" / "data")
    assert pid is not None
    return pid


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("embedded") / "home"
    with EmbeddedPostgres(home, is_durable=False):
        pass
    return home


@pytest.fixture
def home(made_home: Path) -> Iterator[Path]:
    """A home with a cluster, so that a start takes a moment only."""
    yield made_home
    leftover = postmaster_of(made_home / "postgres" / "data")
    if leftover is not None:
        os.kill(leftover, signal.SIGKILL)


# The process that a test kills: it holds a server and says when it runs.
HOLDER = """
import sys
from pathlib import Path
from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), is_durable=False)
server.start()
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holder_of(home: Path, prefix: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [*prefix, sys.executable, "-c", HOLDER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


@needs_proc
@pytest.mark.parametrize("account", ["ourselves", pytest.param("nobody", marks=only_root)])
def test_the_home_and_all_in_it_is_closed_and_its_parents_keep_their_modes(
    tmp_path: Path, account: str
) -> None:
    parent = tmp_path / "outer" / "inner"
    parent.mkdir(parents=True)
    parent.chmod(0o750)
    parent.parent.chmod(0o700)
    prefix: tuple[str, ...] = ()
    if account == "nobody":
        # Its capability lets it read this checkout; to PostgreSQL it is a normal user.
        prefix = find_accounts().maker.prefix
        for folder in (parent, parent.parent):
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    before = [mode(folder) for folder in parent.parents]
    home = parent / "home"
    with holder_of(home, prefix) as process:
        assert mode(home) == 0o700
        dsn = (home / "dsn").read_text().strip()
        # A folder of its own elsewhere, where the name of this one is too long for a socket.
        sockets = Path(parse_qs(urlsplit(dsn).query)["host"][0])
        assert mode(sockets) == mode(sockets.parent) == 0o700
        assert mode(home / "postgres") == 0o700
        assert mode(home / "postgres" / "data") == 0o700
        assert (
            mode(home / "dsn") == mode(home / "postgres.log") == mode(home / "postgres" / "password") == 0o600
        )
        assert [mode(folder) for folder in parent.parents] == before
        assert mode(parent) == 0o750
        owner = os.geteuid()
        if is_root:
            owner = SERVER_ID if account == "ourselves" else pwd.getpwnam("nobody").pw_uid
        assert Path(f"/proc/{pid_of(home)}").stat().st_uid == owner
        assert ask(dsn, "SELECT 1") == 1
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(15) == 0
    assert postmaster_of(home / "postgres" / "data") is None


@only_root
def test_another_user_cannot_reach_the_socket(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False):
        home.parent.chmod(0o755)
        command = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "ls", str(home / "run")]
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert "Permission denied" in refused.stderr


def test_nobody_enters_without_the_password(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False) as server:
        dsn = server.start()
        with pytest.raises(asyncpg.InvalidPasswordError):
            ask(dsn, "SELECT 1", password="wrong")
        without = f"postgresql://dominus@/dominus?host={home / 'run'}&port=5432"
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            ask(without, "SELECT 1", passfile=home / "no-such-file")
        rules = (home / "postgres" / "data" / "pg_hba.conf").read_text().splitlines()
        ways = {rule.split()[-1] for rule in rules if rule.strip() and not rule.startswith("#")}
        assert ways == {"scram-sha-256"}


# What a home of an earlier version holds: its owner is the superuser that initdb makes.
EARLIER = (
    "CREATE ROLE dominus_data NOLOGIN; CREATE ROLE dominus_s_old LOGIN IN ROLE dominus_data",
    "CREATE SCHEMA dominus; CREATE TABLE dominus.psks (id bigserial PRIMARY KEY); INSERT INTO dominus.psks VALUES (7)",
    "CREATE FUNCTION dominus.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT max(id) FROM dominus.psks'",
    "CREATE TYPE public.mood AS ENUM ('a'); CREATE VIEW public.v AS SELECT 1 AS n; SELECT lo_create(4711)",
    "CREATE TABLE public.identified (id int GENERATED ALWAYS AS IDENTITY, m public.mood)",
    # It would stand in for what the change calls, if `public` were searched.
    "CREATE FUNCTION public.format(text, name) RETURNS text LANGUAGE sql AS $$ SELECT 'DROP SCHEMA dominus CASCADE' $$",
)


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    def make(_: Path, data: Path, programs: Path, account: Any, password: str, fsync: str) -> None:
        verifier = cluster.scram_verifier(password, b"salt of 16 bytes")
        statements = f"ALTER ROLE dominus PASSWORD '{verifier}';\n\nCREATE DATABASE dominus;\n\n"
        cluster._single(data, programs, account, "postgres", statements, fsync)

    home = tmp_path / "home"
    with monkeypatch.context() as patch:
        patch.setattr(pgserver, "SUPERUSER", "dominus")
        patch.setattr(pgserver, "make_owner", make)
        patch.setattr(pgserver, "take_from_superuser", lambda *_: None)
        with EmbeddedPostgres(home, is_durable=False) as server:
            execute(server.start(), *EARLIER, "CREATE DATABASE second")
            second = server.start().replace("/dominus?", "/second?")
            execute(second, "CREATE TABLE there AS SELECT 2 AS n")
    return home


def test_the_owner_of_an_earlier_home_ceases_to_be_a_superuser_and_keeps_all(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cluster._single

    def interrupted(*args: Any) -> None:
        real(*args)
        raise ServiceError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr(cluster, "_single", interrupted)
        with pytest.raises(ServiceError, match="interrupted"):
            EmbeddedPostgres(earlier, is_durable=False).start()
    for _ in range(2):
        with EmbeddedPostgres(earlier, is_durable=False) as server:
            dsn = server.start()
            able = "SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper"
            assert ask(dsn, able) == "postgres"
            with pytest.raises(asyncpg.PostgresError):
                ask(dsn.replace("//dominus:", "//postgres:"), "SELECT 1")
            assert ask(dsn, "SELECT dominus.f()") == 7
            left = """
                SELECT count(*) FROM (
                  SELECT oid FROM pg_class WHERE relowner = 10 AND oid >= 16384 UNION ALL
                  SELECT oid FROM pg_proc WHERE proowner = 10 AND oid >= 16384 UNION ALL
                  SELECT oid FROM pg_type WHERE typowner = 10 AND oid >= 16384 UNION ALL
                  SELECT oid FROM pg_namespace WHERE nspowner = 10 AND oid >= 16384 UNION ALL
                  SELECT oid FROM pg_largeobject_metadata WHERE lomowner = 10) AS owned
            """
            assert ask(dsn, left) == 0
            assert ask(dsn.replace("/dominus?", "/second?"), "SELECT n FROM there") == 2
            execute(dsn, "ALTER ROLE dominus_data NOLOGIN; DROP ROLE IF EXISTS dominus_s_old")


def test_nothing_listens_on_the_network(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False) as server:
        assert ask(server.start(), "SELECT current_setting('listen_addresses')") == ""


@needs_proc
def test_the_server_sees_no_secrets_in_arguments_or_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOMINUS_MASTER_KEY", "the-master-key")
    monkeypatch.setenv("PGPORT", "6000")
    with EmbeddedPostgres(home, is_durable=False) as server:
        password = (home / "postgres" / "password").read_text().strip()
        assert ask(server.start(), "SELECT 1") == 1
        for name in ("cmdline", "environ"):
            seen = Path(f"/proc/{pid_of(home)}/{name}").read_bytes()
            assert b"the-master-key" not in seen
            assert password.encode() not in seen


def test_values_of_failing_statements_stay_out_of_the_log(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False) as server:
        dsn = server.start()
        execute(dsn, "CREATE TEMP TABLE t (v text UNIQUE); INSERT INTO t VALUES ('private-value')")
        with pytest.raises(asyncpg.UniqueViolationError):
            execute(
                dsn,
                "CREATE TEMP TABLE t (v text UNIQUE)",
                "INSERT INTO t VALUES ('private-value'), ('private-value')",
            )
        assert "private-value" not in (home / "postgres.log").read_text()


@needs_proc
def test_the_server_ends_when_its_process_is_killed(home: Path) -> None:
    with holder_of(home) as process:
        pid = pid_of(home)
        process.kill()
        until(lambda: is_gone(pid))
    assert not (home / "run" / ".s.PGSQL.5432").exists()


def test_a_start_right_after_the_process_was_killed_has_all_data(home: Path) -> None:
    with holder_of(home) as process:
        execute((home / "dsn").read_text().strip(), "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS n")
        process.kill()
        process.wait()
        with EmbeddedPostgres(home, is_durable=False) as server:
            assert ask(server.start(), "SELECT n FROM kept") == 42


@needs_proc
def test_an_orphan_whose_watchdog_was_killed_too_is_ended_by_the_next_start(home: Path) -> None:
    with holder_of(home) as process:
        pid = pid_of(home)
        watchdog = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        shells = {watchdog, *children_of(watchdog)} - {pid}
        for shell in shells:
            os.kill(shell, signal.SIGSTOP)
        process.kill()
        process.wait()
        try:
            with EmbeddedPostgres(home, is_durable=False) as server:
                assert ask(server.start(), "SELECT 1") == 1
                assert pid_of(home) != pid
        finally:
            for shell in shells:
                os.kill(shell, signal.SIGCONT)


@pytest.mark.parametrize("is_durable", [True, False])
def test_a_killed_postmaster_is_noticed_and_the_next_start_recovers(home: Path, is_durable: bool) -> None:
    with EmbeddedPostgres(home, is_durable=is_durable) as server:
        execute(server.start(), "CREATE TABLE IF NOT EXISTS crashed AS SELECT 7 AS n")
        os.kill(pid_of(home), signal.SIGKILL)
        until(lambda: not server.is_running)
        assert ask(server.start(), "SELECT n FROM crashed") == 7


@needs_proc
def test_a_start_waits_for_the_children_of_a_killed_postmaster(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False) as server:
        server.start()
        postmaster = pid_of(home)
        stuck = children_of(postmaster)[0]
        os.kill(stuck, signal.SIGSTOP)
        os.kill(postmaster, signal.SIGKILL)
        until(lambda: not server.is_running)
        release = threading.Timer(0.5, os.kill, (stuck, signal.SIGKILL))
        release.start()
        began = time.monotonic()
        assert ask(server.start(), "SELECT 1") == 1
        assert time.monotonic() - began >= 0.4
        release.join()


def test_a_stale_pid_file_with_the_number_of_a_living_process_is_no_obstacle(home: Path) -> None:
    stale = f"{os.getpid()}\n{home}/postgres/data\n1\n5432\n\n\n\nready   \n"
    (home / "postgres" / "data" / "postmaster.pid").write_text(stale)
    with EmbeddedPostgres(home, is_durable=False) as server:
        assert ask(server.start(), "SELECT 1") == 1


def test_an_interrupted_first_start_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    half = home / "postgres.new-half"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(home, is_durable=False) as server:
        assert ask(server.start(), "SELECT current_database()") == "dominus"
        assert not half.exists()


def test_a_home_with_a_long_and_odd_path_works_and_leaves_no_folder(
    tmp_path: Path, made_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = Path("/tmp") / f"pg-{os.getpid()}"
    temporary.mkdir()
    monkeypatch.setattr(pgserver.tempfile, "tempdir", str(temporary))
    home = tmp_path / ("it's, a long path " * 8).strip()
    try:
        shutil.copytree(made_home / "postgres", home / "postgres", ignore=shutil.ignore_patterns("*.pid"))
        home.chmod(0o700)
        if is_root:
            subprocess.run(["chown", "-R", "nobody", str(home / "postgres" / "data")], check=True)
        with EmbeddedPostgres(home, is_durable=False) as server:
            assert ask(server.start(), "SELECT 1") == 1
            (folder,) = temporary.iterdir()
            assert mode(folder) == 0o700
        assert not list(temporary.iterdir())
    finally:
        shutil.rmtree(temporary)


def test_a_second_server_of_the_same_home_is_refused(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False) as server:
        with pytest.raises(ConflictError, match=f"pid {os.getpid()}"):
            EmbeddedPostgres(home).start()
        assert ask(server.start(), "SELECT 1") == 1


def test_the_server_survives_the_thread_that_started_it_and_no_terminal_reaches_it(home: Path) -> None:
    server = EmbeddedPostgres(home, is_durable=False)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        assert os.getsid(pid_of(home)) != os.getsid(0)
        assert ask(server.start(), "SELECT 1") == 1
    finally:
        server.stop()
    server.stop()
    assert postmaster_of(home / "postgres" / "data") is None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_that_ends_leaves_the_server_alone(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False) as server:
        dsn = server.start()
        child = os.fork()
        if child == 0:
            server.stop()
            os._exit(0)
        os.waitpid(child, 0)
        assert server.is_running
        assert ask(dsn, "SELECT 1") == 1


def test_a_start_that_fails_says_why_and_frees_the_home(home: Path) -> None:
    version = home / "postgres" / "data" / "PG_VERSION"
    before = version.read_text()
    try:
        version.write_text("17\n")
        with pytest.raises(ServiceError, match="incompatible with server"):
            EmbeddedPostgres(home, is_durable=False).start()
    finally:
        version.write_text(before)
    with EmbeddedPostgres(home, is_durable=False) as server:
        assert server.is_running


@only_root
def test_root_without_the_means_to_be_another_is_told_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgaccount.shutil, "which", lambda *_, **__: None)
    with pytest.raises(ServiceError, match="setpriv is missing") as caught:
        EmbeddedPostgres(home).start()
    assert "normal user" in str(caught.value.hint)
    assert "DOMINUS_DATABASE_URL" in str(caught.value.hint)


def test_a_missing_wheel_is_an_error_that_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgaccount, "PACKAGE", "no_such_package")
    with pytest.raises(ServiceError, match="not installed") as caught:
        EmbeddedPostgres(home).start()
    assert "pip install" in str(caught.value.hint)
