"""Who is at the other end of a connection on 127.0.0.1: only this process and its user are served."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path

__all__ = ["can_check", "is_ours"]

Address = tuple[str, int]
_DESCRIPTORS = Path("/dev/fd")
_TABLE = Path("/proc/net/tcp")


def can_check() -> bool:
    """Tell whether this system shows who connects."""
    return _DESCRIPTORS.is_dir()


def is_ours(peer: Address, here: Address) -> bool:
    """Tell whether a connection from `peer` to `here` comes from this process, or else from its user. Reads files."""
    return _is_of_this_process(peer, here) or _is_of_this_user(peer, here)


def _is_of_this_process(peer: Address, here: Address) -> bool:
    """Look for the other end among the sockets of this process."""
    for entry in _DESCRIPTORS.iterdir():
        try:
            if not stat.S_ISSOCK(os.fstat(int(entry.name)).st_mode):
                continue
            copy = os.dup(int(entry.name))
        except (OSError, ValueError):
            continue  # it was closed meanwhile
        with socket.socket(fileno=copy) as found:
            try:
                if found.getsockname() == peer and found.getpeername() == here:
                    return True
            except OSError:
                continue  # not connected, or no address
    return False


def _is_of_this_user(peer: Address, here: Address) -> bool:
    """Look the other end up in the system's table, where it has one to read (Linux)."""
    try:
        lines = _TABLE.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return False
    wanted = [_as_listed(peer), _as_listed(here)]
    return any(
        fields[1:3] == wanted and int(fields[7]) == os.geteuid()
        for fields in (line.split() for line in lines)
        if len(fields) > 7
    )


def _as_listed(address: Address) -> str:
    # The kernel prints the address as a number of the machine's own byte order.
    number = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{number:08X}:{address[1]:04X}"
