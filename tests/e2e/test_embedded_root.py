"""The embedded PostgreSQL under root: below folders that only root may enter, and with no right of root's."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres import account as pgaccount
from dominus.orchestrator.engines.postgres import cluster
from dominus.orchestrator.engines.postgres.account import (
    SERVER_ID,
    Account,
    find_accounts,
    find_programs,
    open_programs,
)
from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres
from dominus.orchestrator.engines.postgres.process import postmaster_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changes accounts, so it needs root")

# What a container's root has, where nobody chose otherwise.
CONTAINER = (
    "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,"
    "mknod,audit_write,setfcap"
)
SERVER = Account(SERVER_ID, SERVER_ID, ("setpriv",))


def rows(dsn: str, *statements: str) -> list[str]:
    """Run statements, and return the first column of what the last one gives."""

    async def all_of_them() -> list[str]:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return [row[0] for row in await connection.fetch(statements[-1])]
        finally:
            await connection.close()

    return asyncio.run(all_of_them())


def output_of(dsn: str, command: str) -> str:
    """Run a program as the server's superuser can."""
    program = command.replace("'", "''")
    copy = f"COPY said FROM PROGRAM '({program}) 2>&1; true' WITH (DELIMITER E'\\x01')"
    return "\n".join(rows(dsn, "CREATE TEMP TABLE said (line text)", copy, "SELECT line FROM said"))


def capabilities(status: str) -> dict[str, int]:
    return {
        name: int(value, 16) for name, value in re.findall(r"^Cap(\w+):\s*([0-9a-f]+)$", status, re.MULTILINE)
    }


NONE = dict.fromkeys(("Inh", "Prm", "Eff", "Bnd", "Amb"), 0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root") / "home"


@pytest.fixture(scope="module")
def dsn(home: Path) -> Iterator[str]:
    """The superuser's, who can log in nowhere but here: an attacker who got as far as PostgreSQL goes."""
    with EmbeddedPostgres(home, is_durable=False):
        pass
    data, maker = home / "postgres" / "data", find_accounts().maker
    maker.take(data)
    statement = f"ALTER ROLE {cluster.SUPERUSER} LOGIN PASSWORD 'of-the-test';\n\n"
    cluster._single(data, find_programs(), maker, "postgres", statement, "off")
    with EmbeddedPostgres(home, is_durable=False) as server:
        owner = urlsplit(server.start())
        yield f"postgresql://{cluster.SUPERUSER}:of-the-test@/{cluster.DATABASE}?{owner.query}"


def test_the_server_and_its_children_hold_no_capability_and_can_get_none(dsn: str, home: Path):
    postmaster = postmaster_of(home / "postgres" / "data")
    assert dsn
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    seen_count = 0
    for pid in (postmaster, *children):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            # A worker that had nothing more to do.
            assert pid != postmaster
            continue
        seen_count += 1
        assert capabilities(status) == NONE
        assert "NoNewPrivs:\t1" in status
        assert f"Uid:\t{SERVER_ID}\t{SERVER_ID}\t{SERVER_ID}\t{SERVER_ID}" in status
        assert f"Gid:\t{SERVER_ID}\t{SERVER_ID}\t{SERVER_ID}\t{SERVER_ID}" in status
        assert re.search(r"^Groups:\s*$", status, re.MULTILINE)
    assert seen_count >= 3


def test_a_backend_and_a_program_of_the_superuser_hold_none(dsn: str):
    (status,) = rows(dsn, "SELECT pg_read_file('/proc/self/status')")
    assert capabilities(status) == NONE
    assert capabilities(output_of(dsn, "cat /proc/self/status")) == NONE


@pytest.mark.parametrize("path", ["/etc/shadow", "/proc/1/environ", "root's own"])
def test_even_the_superuser_reads_nothing_of_root_s(dsn: str, home: Path, path: str, tmp_path: Path):
    if path == "root's own":
        # Open to all by its own mode: only the folder above keeps others out.
        secret = tmp_path / "secret"
        secret.write_text("of root's")
        secret.chmod(0o644)
        path = str(secret)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="Permission denied"):
        rows(dsn, f"SELECT pg_read_file('{path}')")
    assert "Permission denied" in output_of(dsn, f"cat {path}")


@pytest.mark.parametrize("name", ["dsn", "postgres/password", "postgres.log", "lock", "run", "postgres"])
def test_the_superuser_finds_no_way_up_from_its_folders(dsn: str, home: Path, name: str):
    assert (home / name).exists() or name == "lock"
    for way in ("/proc/self/cwd/..", "/proc/self/cwd/../..", "/proc/$PPID/cwd/../.."):
        assert "Permission denied" in output_of(dsn, f"ls {way}/{name}")
    said = output_of(dsn, f"for fd in /proc/$PPID/fd/* /proc/self/fd/*; do ls $fd/../{name}; done")
    assert "Permission denied" in said
    assert not re.search(rf"^{name}$", said, re.MULTILINE)


def test_a_process_of_nobody_s_cannot_look_into_the_server(dsn: str, home: Path):
    postmaster = postmaster_of(home / "postgres" / "data")
    nobody = pwd.getpwnam("nobody").pw_uid
    command = ["setpriv", f"--reuid={nobody}", "--clear-groups", "ls", f"/proc/{postmaster}/cwd/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Permission denied" in done.stderr
    assert done.stdout == ""


def test_data_of_an_older_version_is_taken_over(tmp_path: Path, home: Path, dsn: str):
    assert dsn
    older = tmp_path / "home"
    with EmbeddedPostgres(older, is_durable=False):
        pass
    nobody = pwd.getpwnam("nobody").pw_uid
    subprocess.run(["chown", "-R", str(nobody), str(older / "postgres" / "data")], check=True)
    with EmbeddedPostgres(older, is_durable=False) as server:
        assert rows(server.start(), "SELECT 'there'") == ["there"]


# A program in a folder of root's, as `pip install` in /root leaves it, and its home below.
MAIN = """
import sys
from pathlib import Path
from dominus.orchestrator.engines.postgres import account as pgaccount
from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres
pgaccount.COPY_PLACES = tuple(sys.argv[2:])
server = EmbeddedPostgres(Path(sys.argv[1]), is_durable=False)
print(server.start(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder of mode 0700 with PostgreSQL's programs in it."""
    folder = tmp_path / "root"
    folder.mkdir(mode=0o700)
    site = folder / "site"
    package = find_programs().parent.parent
    site.mkdir()
    skip = shutil.ignore_patterns("include", "*.a", "__pycache__")
    shutil.copytree(package, site / package.name, ignore=skip, symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), site / f"{package.name}.libs")
    return folder


@pytest.fixture
def place(closed: Path) -> Iterator[Path]:
    """Where all may enter, for copies."""
    assert closed
    folder = Path("/var/tmp") / f"dominus-test-place-{os.getpid()}"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "held", [f"{CONTAINER},dac_read_search", CONTAINER], ids=["read-search", "container"]
)
def test_programs_and_home_below_a_folder_of_root_s(closed: Path, place: Path, held: str):
    drop = ["setpriv", f"--bounding-set=-all,+{held.replace(',', ',+')}", "--inh-caps=-all", "--"]
    home = closed / "app" / ".dominus"
    for is_first in (True, False):
        process = subprocess.Popen(
            [*drop, sys.executable, "-c", MAIN, str(home), str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(closed / "site")},
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                dsn = process.stdout.readline().strip()
                assert dsn.startswith("postgresql://"), process.stderr.read()
                postmaster = postmaster_of(home / "postgres" / "data")
                assert capabilities(Path(f"/proc/{postmaster}/status").read_text()) == NONE
                (stem,) = rows(dsn, "SELECT to_tsvector('english', 'stored')::text")
                assert stem == "'store':1", "its libraries and dictionaries are found"
                process.stdin.close()
                assert process.wait(20) == 0
            finally:
                process.kill()
            told = process.stderr.read()
        if is_first:
            assert f"copied from there to {place}" in told, "it is said"
        else:
            assert told == "", "one copy is enough"
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    (copy,) = place.iterdir()
    assert {path.stat().st_uid for path in copy.rglob("*")} == {0}
    assert not [path for path in (copy, *copy.rglob("*")) if path.stat().st_mode & 0o022]


def test_who_is_not_root_runs_the_programs_where_they_are(closed: Path):
    programs = closed / "site" / pgaccount.PACKAGE / pgaccount.FOLDER / "bin"
    assert open_programs(programs, Account(os.geteuid(), os.getegid())) == programs


def test_without_a_place_for_a_copy_it_says_what_is_closed_and_what_helps(
    closed: Path, monkeypatch: pytest.MonkeyPatch
):
    programs = closed / "site" / pgaccount.PACKAGE / pgaccount.FOLDER / "bin"
    monkeypatch.setattr(pgaccount, "COPY_PLACES", (str(closed), "/no/such/folder"))
    with pytest.raises(ServiceError, match="only root may enter /") as caught:
        open_programs(programs, SERVER)
    assert caught.value.code == "root_refused"
    assert "every user may enter" in str(caught.value.hint)
    assert "DOMINUS_DATABASE_URL" in str(caught.value.hint)
    assert not list(closed.glob("dominus-postgres-*"))


def test_a_copy_that_lost_files_is_made_anew_and_one_of_another_user_is_not_trusted(
    closed: Path, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    programs = closed / "site" / pgaccount.PACKAGE / pgaccount.FOLDER / "bin"
    monkeypatch.setattr(pgaccount, "COPY_PLACES", (str(place),))
    copy = open_programs(programs, SERVER)
    (copy.parent / "share/postgresql/postgres.bki").unlink()
    assert open_programs(programs, SERVER) == copy
    assert (copy.parent / "share/postgresql/postgres.bki").exists()
    (top,) = place.iterdir()
    os.chown(top, 12345, -1)
    (copy / "postgres").write_text("another program")
    open_programs(programs, SERVER)
    assert top.stat().st_uid == 0
    assert (copy / "postgres").stat().st_size == (programs / "postgres").stat().st_size
    assert caplog.text.count("are copied") == 3


@pytest.mark.parametrize("lost", ["setpcap", "kill", "chown"])
def test_a_root_that_lacks_a_capability_is_told_which(tmp_path: Path, lost: str):
    held = ",+".join(name for name in CONTAINER.split(",") if name != lost)
    # Whoever lacks setpcap cannot give up more: the test's own root does it before.
    command = ["setpriv", f"--bounding-set=-all,+{held}", "--inh-caps=-all", "--"]
    done = subprocess.run(
        [*command, sys.executable, "-c", MAIN, str(tmp_path / "home")],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1
    assert f"this root lacks the capabilities {lost}" in done.stderr


def test_a_root_whose_users_are_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def nobody(_: str) -> None:
        raise KeyError

    monkeypatch.setattr(pgaccount.pwd, "getpwnam", nobody)
    with pytest.raises(ServiceError, match="there is no user `nobody`"):
        EmbeddedPostgres(tmp_path / "home").start()


def test_a_root_of_a_namespace_with_one_user_is_told(tmp_path: Path):
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-r", "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    done = subprocess.run(
        [unshare, "-r", sys.executable, "-c", MAIN, str(tmp_path / "home"), *pgaccount.COPY_PLACES],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1
    assert "cannot be given to user" in done.stderr
    assert "run as a normal user" in done.stderr


def test_a_kill_of_the_process_ends_the_server_of_another_user(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, str(tmp_path / "home"), *pgaccount.COPY_PLACES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        pid = postmaster_of(tmp_path / "home" / "postgres" / "data")
        assert pid is not None
        descriptor = os.pidfd_open(pid)
        process.send_signal(signal.SIGKILL)
    try:
        assert select.select([descriptor], [], [], 15)[0], "it has not ended"
    finally:
        os.close(descriptor)
