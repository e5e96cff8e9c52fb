"""DOMINUS_HOME: the one folder of the embedded engines, which only its user may enter."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import stat
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

from dominus.errors import ConflictError, ServiceError, ValidationError
from dominus.hints import shell_command

__all__ = ["HomeLock", "hold", "in_forked_child", "open_home", "read_or_create_secret", "write_private"]

logger = logging.getLogger("dominus.home")

LOCK = "lock"
_OURS = frozenset({LOCK, "dsn", "files", "master-key", "postgres", "run", "spool", "token"})
"""What lies in a home without a `.gitignore`, each with or without a suffix."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def open_home(path: Path) -> Path:
    """Create the folder with mode 0700 where it is missing, and return its absolute path.

    A folder of ours that became wider is narrowed again. Parent folders keep their modes.

    Raises:
        ValidationError: it is another user's, no folder, or an open folder with other things in it.
    """
    home = path.expanduser().absolute()
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
        home = home.resolve(strict=True)
        found = home.stat()
    except OSError as error:
        raise ValidationError(
            f"the home {home} cannot be used: {error.strerror}",
            hint="set DOMINUS_HOME to a folder of your own",
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise ValidationError(
            f"the home {home} is no folder", hint="set DOMINUS_HOME to a folder of your own"
        )
    if found.st_uid != os.geteuid():
        raise ValidationError(
            f"the home {home} belongs to user {found.st_uid}, this process is user {os.geteuid()}",
            hint="run as the same user as before, or set DOMINUS_HOME to a folder of your own",
        )
    if found.st_mode & _OTHERS:
        _narrow(home)
    _hide_from_git(home)
    return home


def _narrow(home: Path) -> None:
    # A home has a lock from its first use on. Any other open folder with something in it is somebody's work
    # (`--home .`), and closing that to others would surprise them.
    is_ours = any((home / name).exists() for name in (LOCK, "postgres.lock")) or not any(home.iterdir())
    if not is_ours:
        raise ValidationError(
            f"{home} is open to other users and holds other things: it is no home",
            hint="set DOMINUS_HOME to a new folder, or close this one with chmod 700",
        )
    home.chmod(0o700)


def _hide_from_git(home: Path) -> None:
    """Keep keys and data out of `git add .`, in a home that holds nothing else."""
    # `--home .` in somebody's project must not hide that.
    if any(path.name.partition(".")[0] not in _OURS for path in home.iterdir()):
        return
    try:
        with (home / ".gitignore").open("x", encoding="utf-8") as file:
            file.write("*\n")
    except FileExistsError:
        # Made by another process meanwhile.
        return
    except OSError as error:
        raise ValidationError(
            f"the home {home} cannot be written to: {error.strerror}",
            hint="set DOMINUS_HOME to a folder of your own",
        ) from error


class HomeLock:
    """The right to use a home, until `release` or the end of the process."""

    def __init__(self, path: Path, descriptor: int, what: str) -> None:
        self._descriptor: int | None = descriptor
        self.path = path
        self.describe(what)
        in_forked_child(self.release)

    def describe(self, what: str) -> None:
        """Say who holds it, for the message that a second process gets."""
        if self._descriptor is None:
            return
        text = json.dumps({"pid": os.getpid(), "what": what}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)

    def release(self) -> None:
        """Let others have it. Doing so twice is fine."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            # Closing is the release. A fork shares the lock, so LOCK_UN there would take it from the parent.
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def hold(home: Path, what: str, *, name: str = LOCK) -> HomeLock:
    """Take the home for this process; `what` names it, for example `dominus dev on http://127.0.0.1:8700`.

    Raises:
        ConflictError: another process, or another part of this one, holds it; the message says which.
    """
    path = home / name
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = -1
    try:
        descriptor = os.open(path, flags, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConflictError(
            f"the home {home} is in use by {_holder(path)}",
            code="home_in_use",
            hint=f"let one process serve all: start `{shell_command('dev')}` and set DOMINUS_URL to its address, "
            "or set another DOMINUS_HOME",
        ) from None
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        raise ServiceError(
            f"{path} cannot be locked: {error.strerror}",
            retryable=False,
            hint="DOMINUS_HOME must be on a local file system and writable",
        ) from error
    return HomeLock(path, descriptor, what)


def _holder(path: Path) -> str:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    # Between taking the lock and writing the name there is a moment without one.
    if not isinstance(found, dict):
        return "another process"
    facts = cast("dict[str, Any]", found)
    return f"{facts.get('what')} (pid {facts.get('pid')})"


def read_or_create_secret(home: Path, name: str, make: Callable[[], str]) -> str:
    """Return the secret in `home/name`; where there is none, `make` one and keep it with mode 0600.

    Of several processes that do this at once, all get the same secret.

    Raises:
        ValidationError: the file is empty, a link, or belongs to another user.
    """
    path = home / name
    if not os.path.lexists(path):
        draft = _draft(path, make())
        try:
            # A link appears complete or not at all, and never replaces one that is there.
            os.link(draft, path)
        except FileExistsError:
            logger.debug("%s was made by another process meanwhile", path)
        finally:
            draft.unlink()
    return _read_private(path)


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600; a reader sees the old text or the new one, never a part."""
    draft = _draft(path, text)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink()
        raise


def _draft(path: Path, text: str) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(descriptor)
    return Path(name)


def _read_private(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        reason = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise ValidationError(f"{path} cannot be read: {reason}") from error
    with os.fdopen(descriptor, encoding="utf-8") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise ValidationError(f"{path} is not a file of this user")
        if found.st_mode & _OTHERS:
            logger.warning("%s was readable by others; its mode is 0600 again", path)
            os.fchmod(descriptor, 0o600)
        text = file.read().strip()
    if not text:
        raise ValidationError(
            f"{path} is empty",
            hint="restore it, or delete it to have a new one made; what the old one opened stays closed then",
        )
    return text


def in_forked_child(method: Callable[[], None]) -> None:
    """Run a bound method in every child that `os.fork` makes, for as long as its object lives.

    A fork copies open descriptors: without this, a child would keep locks and pipes after its parent died.
    """
    reference = weakref.WeakMethod(method)

    def run() -> None:
        bound = reference()
        if bound is not None:
            bound()

    os.register_at_fork(after_in_child=run)
