"""The embedded PostgreSQL: made at the first start, ended with this process, recovered after a crash."""
# Over 350 lines, since the life of the server is told in one place: made, started, watched, ended, recovered.

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import os
import re
import secrets
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self
from urllib.parse import quote

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres.account import (
    ROOT_HINT,
    Account,
    Accounts,
    find_accounts,
    find_programs,
    open_programs,
)
from dominus.orchestrator.engines.postgres.cluster import (
    DATABASE,
    SUPERUSER,
    USER,
    make_owner,
    take_from_superuser,
)
from dominus.orchestrator.engines.postgres.process import (
    GuardedProcess,
    cluster_name,
    complaint,
    failed_start,
    postmaster_of,
    run_program,
)
from dominus.orchestrator.home import HomeLock, hold, in_forked_child, open_home, write_private

__all__ = ["DATABASE", "EmbeddedPostgres", "end_orphan"]

logger = logging.getLogger("dominus.postgres")

LOG_LIMIT = 10 * 1024 * 1024
"""Bytes; a larger log is put aside at the next start."""
SOCKET_FOLDER_LIMIT = 103 - len("/.s.PGSQL.5432")
"""macOS allows a socket path of 103 bytes, Linux of 107."""
POLL_SECONDS = 0.005

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "250",
    # Native sessions, which have logins of their own, cannot use up all.
    "reserved_connections": "50",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # `log` leaves out errors of statements: their text and details hold users' values.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "log_checkpoints": "off",
    # One server alone: nothing streams from it, and COPY into a new table needs no log.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
}
# The log is still written at each commit, so that a killed server loses nothing; only the disk is not awaited.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """A PostgreSQL of this process, with its data in `home/postgres` and its socket where only we may go.

    `start` and `stop` block: call them through `asyncio.to_thread`. The server survives the thread that
    started it and ends with the process, also when that is killed.
    """

    def __init__(
        self,
        home: Path,
        *,
        is_durable: bool = True,
        start_timeout: float = 60.0,
        stop_timeout: float = 30.0,
    ) -> None:
        """Prepare; nothing is touched before `start`.

        Args:
            home: DOMINUS_HOME; made if it is missing.
            is_durable: False for tests: a crash of the machine may lose everything.
            start_timeout: seconds; it covers the recovery after a crash and the end of an earlier server.
            stop_timeout: seconds until the server is killed.
        """
        self._home = home
        self._is_durable = is_durable
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._mutex = threading.Lock()
        self._hold: HomeLock | None = None
        self._process: GuardedProcess | None = None
        self._short_folder: Path | None = None
        self._dsn: str | None = None
        in_forked_child(self._forget)

    @property
    def is_running(self) -> bool:
        """Whether the server runs; false also when it ended by itself."""
        return self._process is not None and self._process.is_running

    def start(self) -> str:
        """Start the server, or find it started; return the owner's DSN, also kept in `home/dsn` (0600).

        Raises:
            ConflictError: another process runs a server in this home.
            ServiceError: PostgreSQL is not installed, may not run here, or does not start; with the reason.
            ValidationError: the home cannot be used.
        """
        with self._mutex:
            if self._dsn is not None and self.is_running:
                return self._dsn
            self._end()
            self._home = open_home(self._home)
            self._hold = hold(self._home, "an embedded PostgreSQL", name="postgres.lock")
            try:
                self._dsn = self._begin()
            except BaseException:
                self._end()
                raise
            atexit.register(self.stop)
            return self._dsn

    def stop(self) -> None:
        """End the server by a fast shutdown and free the home. Doing so twice is fine."""
        with self._mutex:
            self._end()
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _begin(self) -> str:
        deadline = time.monotonic() + self._start_timeout
        programs, accounts = find_programs(), find_accounts()
        cluster = self._home / "postgres"
        _sweep(self._home)
        if not cluster.exists():
            _create_cluster(cluster, programs, accounts, is_durable=self._is_durable)
        data = cluster / "data"
        password = _read_password(cluster)
        end_orphan(data, deadline)
        fsync = "on" if self._is_durable else "off"
        take_from_superuser(cluster, data, programs, accounts.maker, password, fsync)
        accounts.server.take(data)
        sockets = self._socket_folder(accounts.server)
        log = self._home / "postgres.log"
        _put_aside(log)
        programs = open_programs(programs, accounts.server)
        self._launch(lambda: self._spawn(programs, accounts.server, data, sockets, log), data, log, deadline)
        host = quote(str(sockets), safe="/")
        dsn = f"postgresql://{USER}:{password}@/{DATABASE}?host={host}&port=5432"
        write_private(self._home / "dsn", dsn)
        return dsn

    def _spawn(
        self, programs: Path, account: Account, data: Path, sockets: Path, log: Path
    ) -> GuardedProcess:
        if not account.prefix:
            argv = self._command(programs, cluster_name(data), str(data), str(sockets))
            return GuardedProcess(argv, log=log, cwd=Path("/"))
        # Its folders are its own, those above them may be root's: it begins in the one, and is given the other.
        given = os.open(sockets, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            # The shell between us uses the numbers below.
            folder = fcntl.fcntl(given, fcntl.F_DUPFD_CLOEXEC, 10)
        finally:
            os.close(given)
        try:
            argv = self._command(programs, cluster_name(data), "/proc/self/cwd", f"/proc/self/fd/{folder}")
            return GuardedProcess([*account.prefix, *argv], log=log, cwd=data, keep=[folder])
        finally:
            os.close(folder)

    def _command(self, programs: Path, name: str, data: str, sockets: str) -> list[str]:
        # The owner is called like the system schema, and "$user" would come first: a person with psql means public.
        settings = {
            **_SETTINGS,
            "unix_socket_directories": sockets,
            "search_path": "public",
            "cluster_name": name,
        }
        if not self._is_durable:
            settings |= _NOT_DURABLE
        if os.geteuid() == 0 and not _may_all_write(Path("/dev/shm")):  # noqa: S108 - PostgreSQL's place, not ours
            # initdb chose it as one who may pass root's folders; the server may not.
            settings["dynamic_shared_memory_type"] = "mmap"
        options = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        return [str(programs / "postgres"), "-D", data, *options]

    def _launch(self, spawn: Callable[[], GuardedProcess], data: Path, log: Path, deadline: float) -> None:
        while True:
            seen = log.stat().st_size if log.exists() else 0
            stale = _pid_file(data)
            self._process = spawn()
            if _await_ready(self._process, data, stale, deadline):
                return
            was_running = self._process.is_running
            self._process.stop(self._stop_timeout)
            said = _complaint(log, seen)
            # After a kill of the postmaster its children need a moment to notice; they still use its memory.
            if "is still in use" in said and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            reason = f"it was not ready after {self._start_timeout:g} s" if was_running else said
            raise failed_start(
                f"the embedded PostgreSQL did not start: {reason}",
                hint=f"{log} says more" + (f"; {ROOT_HINT}" if os.geteuid() == 0 else ""),
            )

    def _socket_folder(self, account: Account) -> Path:
        folder = self._home / "run"
        # PostgreSQL and clients read lists there: a comma or a space would end the name.
        is_plain = re.fullmatch(r"[\w./+-]+", str(folder), re.ASCII) is not None
        if not is_plain or len(os.fsencode(folder)) > SOCKET_FOLDER_LIMIT:
            base = tempfile.gettempdir()
            base = base if len(os.fsencode(base)) <= SOCKET_FOLDER_LIMIT // 2 else "/tmp"  # noqa: S108
            self._short_folder = Path(tempfile.mkdtemp(prefix="dominus-", dir=base))
            folder = self._short_folder / "run"
        return account.make_folder(folder)

    def _forget(self) -> None:
        # The server is the parent's: what a forked child does, its exit included, must not touch it.
        self._mutex = threading.Lock()
        self._hold = self._process = self._short_folder = self._dsn = None

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.stop(self._stop_timeout)
        folder, self._short_folder = self._short_folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        held, self._hold = self._hold, None
        if held is not None:
            held.release()
        self._dsn = None


def _may_all_write(folder: Path) -> bool:
    return folder.is_dir() and folder.stat().st_mode & stat.S_IWOTH != 0


def _sweep(home: Path) -> None:
    # What an interrupted first start left; a cluster takes its name only when it is complete.
    for folder in home.glob("postgres.new-*"):
        logger.warning("removing %s, which an interrupted first start left", folder)
        shutil.rmtree(folder, ignore_errors=True)


def _create_cluster(cluster: Path, programs: Path, accounts: Accounts, *, is_durable: bool) -> None:
    building = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=cluster.parent))
    try:
        # initdb wants one for the superuser; it is gone before the server first starts.
        initial = building / "initial"
        write_private(initial, secrets.token_urlsafe(32))
        data = accounts.maker.make_folder(building / "data")
        initdb = [
            *(str(programs / "initdb"), "-D", str(data), "-U", SUPERUSER, f"--pwfile={initial}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
            # Sorts by code point, fast and the same everywhere, and knows the case of all letters.
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
            *(() if is_durable else ("--no-sync",)),
        ]
        run_program(accounts.maker, initdb)
        initial.unlink()
        password = secrets.token_urlsafe(32)
        write_private(building / "password", password)
        make_owner(building, data, programs, accounts.maker, password, "on" if is_durable else "off")
        accounts.server.take(data)
        if is_durable:
            _sync_folder(building)
        building.rename(cluster)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    if is_durable:
        _sync_folder(cluster.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_password(cluster: Path) -> str:
    try:
        return (cluster / "password").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ServiceError(
            f"{cluster / 'password'} cannot be read: {error.strerror}",
            retryable=False,
            hint=f"restore it, or delete {cluster} to begin with an empty database",
        ) from error


def end_orphan(data: Path, deadline: float) -> None:
    """End the server of a process that died, and wait for it; the caller holds the home, so it is nobody's.

    Raises:
        ServiceError: it still runs when the clock says `deadline` (`time.monotonic`).
    """
    pid = postmaster_of(data)
    if pid is not None:
        logger.warning("an earlier PostgreSQL (pid %d) still runs in this home; ending it", pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
    while postmaster_of(data) is not None:
        if time.monotonic() > deadline:
            raise ServiceError(
                f"an earlier PostgreSQL (pid {pid}) in this home does not end",
                hint=f"end it with: kill -QUIT {pid}",
            )
        time.sleep(POLL_SECONDS)
    # After a crash the number in the file may be any process's by now, and PostgreSQL would take that for a
    # server. Orphaned children, which the file would tell of too, it knows by their shared memory.
    (data / "postmaster.pid").unlink(missing_ok=True)


def _pid_file(data: Path) -> str:
    try:
        return (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _await_ready(process: GuardedProcess, data: Path, stale: str, deadline: float) -> bool:
    while process.is_running and time.monotonic() < deadline:
        lines = _pid_file(data).splitlines()
        if len(lines) >= 8 and lines[7].strip() == "ready" and lines[:3] != stale.splitlines()[:3]:
            return True
        time.sleep(POLL_SECONDS)
    return False


def _put_aside(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))


def _complaint(log: Path, seen: int) -> str:
    """Return what the server said last, from byte `seen` of its log."""
    with log.open("rb") as file:
        file.seek(seen)
        return complaint(file.read(LOG_LIMIT).decode(errors="replace"))
