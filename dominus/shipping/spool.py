"""Lines on disk while the orchestrator is away: one file for each process, which a later one takes over.

Its owner holds a lock on its file for as long as it lives; a file that can be locked has none. Lines are read from the
beginning once more when a process ends within them: their ids make that harmless. Written without fsync: it has to
outlive the process, not a power failure, and nobody who logs waits for the disk.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["Spool", "orphans"]

SUFFIX = ".spool"
_PRIVATE = stat.S_IRWXG | stat.S_IRWXO


class Spool:
    """One file of lines: written at its end, read from its beginning. Safe to use from several threads.

    Attributes:
        line_count: lines that were written by this process and are not sent yet.
    """

    def __init__(self, folder: Path, tag: str, limit: int) -> None:
        """Prepare; the first line makes the file.

        Args:
            folder: where it lies; made with mode 0700.
            tag: to which server, project and environment its lines belong.
            limit: bytes of all files of this tag together.
        """
        self._folder = folder
        self._tag = tag
        self._limit = limit
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._descriptor: int | None = None
        self._end = 0
        self._offset = 0
        self._read_to = 0
        self._read_count = 0
        self._others_bytes = 0
        self.line_count = 0

    @classmethod
    def take_over(cls, path: Path, tag: str) -> Spool | None:
        """Return the spool of a process that has ended; None when it still lives, or another has taken it over."""
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            facts = os.fstat(descriptor)
            is_ours = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()
            if is_ours and _is_locked(descriptor) and _is_at(path, descriptor):
                found = cls(path.parent, tag, 0)
                found._path, found._descriptor, found._end = path, descriptor, os.fstat(descriptor).st_size
                descriptor = -1
                return found
            return None
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def left_behind(self) -> Spool | None:
        """Return the next spool of the same tag whose process has ended, taken over; None when there is none."""
        for path in orphans(self._folder, self._tag):
            try:
                found = Spool.take_over(path, self._tag)
            except OSError:
                # It was taken over, and removed, by another at this moment; or it is none of ours.
                continue
            if found is not None:
                return found
        return None

    @property
    def has_lines(self) -> bool:
        """Whether lines wait."""
        return self._offset < self._end

    def append(self, lines: Sequence[bytes]) -> int:
        """Write lines at the end, as many as there is room for; return how many.

        Raises:
            OSError: the file cannot be made or written; what it held is as it was.
        """
        with self._lock:
            if self._descriptor is None:
                self._make()
            room = self._limit - self._others_bytes - self._end
            count = 0
            for line in lines:
                room -= len(line) + 1
                if room < 0:
                    break
                count += 1
            if count and self._descriptor is not None:
                self._write(self._descriptor, b"\n".join([*lines[:count], b""]))
            self.line_count += count
            return count

    def _write(self, descriptor: int, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            # The disk is full: half a line would spoil the next.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._end)
            raise
        self._end += len(data)

    def read(self, count: int, size: int) -> list[bytes]:
        """Return the first lines, which stay until `forget`: at most so many, of so many bytes (at least one)."""
        with self._lock:
            self._read_to, self._read_count = self._offset, 0
            if self._descriptor is None:
                return []
            data = os.pread(self._descriptor, min(size, self._end - self._offset), self._offset)
            lines = data.split(b"\n")
            # The last is empty, cut off by `size`, or by the end of the process that wrote it.
            lines = lines[:-1][:count]
            if not lines:
                self._read_to = self._end
                return []
            self._read_to = self._offset + sum(len(line) + 1 for line in lines)
            self._read_count = len(lines)
            return lines

    def forget(self) -> None:
        """Forget what was read last: it is stored."""
        with self._lock:
            self._offset = self._read_to
            self.line_count = max(0, self.line_count - self._read_count)
            if self._offset >= self._end and self._descriptor is not None:
                os.ftruncate(self._descriptor, 0)
                self._offset = self._end = self._read_to = 0

    def close(self) -> None:
        """Let go of the file, and remove it when it is empty."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is None:
                return
            if not self.has_lines and self._path is not None:
                # While it is still locked: nobody else can have begun to use it.
                self._path.unlink(missing_ok=True)
            os.close(descriptor)
            self._end = self._offset = 0

    def leave_to_parent(self) -> None:
        """Let go of a file that belongs to the parent of this fork. Closing frees no lock that is shared."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _make(self) -> None:
        folder = self._folder
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & _PRIVATE:
            raise PermissionError(f"{folder} is not a folder that this user alone may enter")
        with (
            contextlib.suppress(FileExistsError),
            (folder / ".gitignore").open("x", encoding="utf-8") as file,
        ):
            file.write("*\n")
        while True:
            path = folder / f"{self._tag}-{os.getpid()}-{time.time_ns():x}{SUFFIX}"
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o600)
            # Before it was locked, another process may have taken it for one that was left behind.
            if _is_locked(descriptor) and _is_at(path, descriptor):
                break
            os.close(descriptor)
        self._path, self._descriptor, self._end, self._offset = path, descriptor, 0, 0
        self._others_bytes = sum(_size(other) for other in orphans(folder, self._tag) if other != path)


def orphans(folder: Path, tag: str) -> Iterator[Path]:
    """Iterate over the files of a tag, whoever's they are, the oldest first."""
    try:
        found = sorted(folder.glob(f"{tag}-*{SUFFIX}"), key=lambda path: path.name.rpartition("-")[2])
    except OSError:
        return
    yield from found


def _is_locked(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        there = path.lstat()
    except OSError:
        return False
    own = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
