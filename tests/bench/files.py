"""Upload and download of 256 MiB, against obstore alone on a folder of the same disk."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import obstore
from obstore.store import LocalStore
from stack import dev, row

from dominus import Dominus

SIZE = 256 * 1024 * 1024


async def run(arguments: argparse.Namespace) -> None:
    times: dict[str, list[float]] = {
        name: [] for name in ("obstore up", "files up", "obstore down", "files down")
    }
    with dev() as server, tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.write_bytes(os.urandom(SIZE))
        store = LocalStore(Path(folder, "store"), mkdir=True)
        async with Dominus(url=server.url, token=server.token) as client:
            await client.files.upload(b"x", "small")
            for _ in range(arguments.rounds):
                began = time.perf_counter()
                await obstore.put_async(store, "large", source)
                times["obstore up"].append(time.perf_counter() - began)
                began = time.perf_counter()
                made = await client.files.upload(source, "large", timeout=60)
                times["files up"].append(time.perf_counter() - began)
                began = time.perf_counter()
                async for _chunk in (await obstore.get_async(store, "large")).stream():
                    pass
                times["obstore down"].append(time.perf_counter() - began)
                began = time.perf_counter()
                async for _chunk in client.files.stream(made["id"], timeout=60):
                    pass
                times["files down"].append(time.perf_counter() - began)
    speed = {name: SIZE / 1e6 / statistics.median(found) for name, found in times.items()}
    for way in ("up", "down"):
        mine, theirs = speed[f"files {way}"], speed[f"obstore {way}"]
        row(f"{way}: files, obstore alone", f"{mine:.0f} MB/s", f"{theirs:.0f} MB/s", f"{mine / theirs:.2f}")
