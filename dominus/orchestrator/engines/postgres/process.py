"""PostgreSQL's processes: how they are run, found again, and end with us."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres.account import ENVIRONMENT, ROOT_HINT, Account
from dominus.orchestrator.home import in_forked_child

__all__ = ["GuardedProcess", "cluster_name", "complaint", "failed_start", "postmaster_of", "run_program"]

logger = logging.getLogger("dominus.postgres")

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

_SEVERE = ("FATAL:", "PANIC:", "error:")
_NO_SPACE = "No space left on device"


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
        reason = complaint(done.stderr.decode(errors="replace"))
        raise failed_start(f"{name} failed: {reason}", hint=ROOT_HINT if account.prefix else None)


def complaint(said: str) -> str:
    """Return the line in which a program of PostgreSQL says why it ended, of all that it said."""
    lines = said.strip().splitlines()
    severe = [line for line in lines if any(word in line for word in _SEVERE)]
    return (severe or lines or ["it said nothing"])[-1]


def failed_start(message: str, *, hint: str | None) -> ServiceError:
    """Return (not raise) the error of a server that was not made or started; `hint` where the disk is not full."""
    if _NO_SPACE in message:
        return ServiceError(
            message,
            code="disk_full",
            status_code=507,
            details={"engine": "postgres"},
            retryable=False,
            hint="make space on the disk of DOMINUS_HOME",
        )
    return ServiceError(message, retryable=False, hint=hint)


def cluster_name(data: Path) -> str:
    """Return the name by which the server of a data folder is known in its command line."""
    return f"dominus-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"


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
    return pid if cluster_name(data) in command and "postgres" in command else None


def _command_of(pid: int) -> str:
    if Path("/proc/self/cmdline").exists():
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes())
    command = ["/bin/ps", "-o", "command=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    return os.fsdecode(done.stdout)


class GuardedProcess:
    """A server that ends when this process ends, whichever way that is, and not by Ctrl-C in the terminal."""

    def __init__(self, argv: Sequence[str], *, log: Path, cwd: Path, keep: Sequence[int] = ()) -> None:
        """Start it; `keep` are descriptors that it inherits, under the same numbers of 10 and more."""
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        read_end, write_end = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", _WATCHDOG, "dominus-postgres", *argv],
                stdin=read_end,
                stdout=output,
                stderr=output,
                env=ENVIRONMENT,
                cwd=cwd,
                pass_fds=keep,
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
