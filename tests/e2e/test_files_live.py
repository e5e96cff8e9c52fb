"""Files against a running orchestrator: by its command line, and within a bound of memory on both sides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from live_support import Live, live

__all__ = ["live"]
MIB = 1024 * 1024
_MEASURED = """
import asyncio, os, resource, sys
from dominus import Dominus
SIZE, MIB = int(sys.argv[1]), 1 << 20
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
async def source():
    block = os.urandom(MIB)
    for _ in range(SIZE // MIB): yield block
async def main():
    async with Dominus() as client:
        await client.files.upload(b"x" * 64, "small")
        await client.files.read(path="small")
        before = peak()
        made = await client.files.upload(source(), "large", timeout=60)
        async for _ in client.files.stream(made["id"], timeout=60): pass
        print(made["size"], peak() - before)
asyncio.run(main())
"""


def environment(live: Live) -> dict[str, str]:
    return {**os.environ, "DOMINUS_URL": live.url, "DOMINUS_TOKEN": live.psk}


def run(live: Live, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        env=environment(live),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_goes_up_and_down_by_the_command_line(live: Live, tmp_path: Path) -> None:
    source, target = tmp_path / "film.bin", tmp_path / "back"
    source.write_bytes(os.urandom(9 * MIB))
    target.mkdir()
    made = json.loads(
        run(live, "-m", "dominus.cli", "files", "upload", str(source), "--category", "cli", "--tag", "a=b")
    )
    assert (made["path"], made["tags"], made["size"]) == ("film.bin", {"a": "b"}, 9 * MIB)
    for name in ((made["id"],), ("film.bin", "--category", "cli")):
        run(live, "-m", "dominus.cli", "files", "download", name[0], str(target), *name[1:])
        assert (target / "film.bin").read_bytes() == source.read_bytes()


def test_256_mib_up_and_down_take_less_than_64_mib_of_memory(live: Live) -> None:
    run(live, "-c", _MEASURED, str(2 * MIB))
    server = peak_of(live)
    size, grown = map(int, run(live, "-c", _MEASURED, str(256 * MIB)).split())
    assert size == 256 * MIB
    assert grown < 64
    if server is not None:
        assert (peak_of(live) or 0) - server < 64


def peak_of(live: Live) -> int | None:
    """The most memory that the server had so far, in MiB; None where the machine does not tell."""
    pid = json.loads((live.home / "lock").read_text())["pid"]
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024
