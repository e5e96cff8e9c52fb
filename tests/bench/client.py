"""The client's own time: bare aiohttp and ours in turn, against a server that costs nearly nothing."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator

import aiohttp
from stack import median, rate, row

from dominus import Dominus

COUNT = 400
_SERVER = """
import asyncio
BODY = (b'{"success":true,"data":{"access_token":"a.' + b"b" * 600 + b'.c","token_type":"Bearer","expires_in":86400,'
        b'"found":true,"value":1}}')
ANSWER = (b"HTTP/1.1 200 OK\\r\\nDominus-Wire: json\\r\\nX-Request-Id: 0123456789abcdef\\r\\n"
          b"Content-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(BODY)) + BODY
class Stub(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.seen = transport, b""
    def data_received(self, data):
        seen = self.seen = self.seen + data
        end = seen.find(b"\\r\\n\\r\\n")
        if end < 0:
            return
        head = seen[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15:].partition(b"\\r\\n")[0]) if at >= 0 else 0
        if len(seen) >= end + 4 + length:
            self.seen = b""
            self.transport.write(ANSWER)
async def main():
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def stub() -> Iterator[str]:
    """Run the server in a process of its own; it answers everything with the same bytes."""
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


async def run(arguments: argparse.Namespace) -> None:
    with stub() as url:
        async with Dominus(url=url, token="x" * 43) as ours, aiohttp.ClientSession() as bare:
            headers = {"authorization": "Bearer a." + "b" * 600 + ".c"}
            body = {"logical_path": "k", "nudge": False}

            async def by_aiohttp() -> object:
                async with bare.post(f"{url}/api/whisperer/get", json=body, headers=headers) as response:
                    return (await response.json())["data"].get("value")

            async def by_us() -> object:
                return await ours.redis.get("k")

            contenders = {"bare aiohttp": by_aiohttp, "ours": by_us}
            row("callers, contender; a stub server", "us/call", "CPU us/call", "of aiohttp", "CPU of it")
            for callers in (1, 32):
                found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
                for call in contenders.values():
                    await rate(call, COUNT, callers)
                # Many short turns: on a machine that others use too, only neighbours in time can be compared.
                for _ in range(arguments.rounds * 8):
                    for name, call in contenders.items():
                        found[name].append(await rate(call, COUNT, callers))
                for name, results in found.items():
                    pairs = list(zip(results, found["bare aiohttp"], strict=True))
                    row(
                        f"{callers:>3}  {name}",
                        f"{1e6 / median([result[0] for result in results]):.0f}",
                        f"{median([result[1] for result in results]):.0f}",
                        f"{median([mine[0] / theirs[0] for mine, theirs in pairs]):.2f}",
                        f"{median([mine[1] / theirs[1] for mine, theirs in pairs]):.2f}",
                    )
