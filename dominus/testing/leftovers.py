"""The homes of test runs that were killed, removed by the next run."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import time
from pathlib import Path

from dominus.errors import ConflictError, DominusError
from dominus.orchestrator.engines.postgres.embedded import end_orphan
from dominus.orchestrator.home import LOCK, hold

__all__ = ["PREFIX", "remove_leftovers"]

_log = logging.getLogger("dominus.testing")

PREFIX = "dominus-test-"
"""What the names of test homes begin with."""
END_SECONDS = 10.0
"""How long the PostgreSQL of a killed run may take to end."""


def remove_leftovers(parent: Path) -> None:
    """Remove the test homes in a folder whose processes are gone. Those of running tests are not touched."""
    for home in parent.glob(f"{PREFIX}*"):
        if _was_used(home):
            try:
                _remove(home)
            except ConflictError:
                # A run that goes on holds its home; the kernel ends the hold with the process, however that ends.
                continue
            except DominusError as error:
                _log.warning("%s, left by a killed test run, stays: %s", home, error.message)


def _was_used(home: Path) -> bool:
    """Whether this is a home of ours that was held once: what holds it writes its name into the lock."""
    try:
        found, lock = home.lstat(), (home / LOCK).lstat()
    except OSError:
        # Without a lock it is being made just now; or another run removes it.
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and lock.st_size > 0


def _remove(home: Path) -> None:
    with hold(home, "the removal of what a killed test run left"):
        data = home / "postgres" / "data"
        if data.exists():
            end_orphan(data, time.monotonic() + END_SECONDS)
        shutil.rmtree(home, ignore_errors=True)
        _log.info("removed %s, which a killed test run left", home)
