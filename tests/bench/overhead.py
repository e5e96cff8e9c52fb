"""The pipeline's own time: a call over a carrier that answers at once, with and without its guards."""

from __future__ import annotations

import argparse
import time

from stack import median, row

from dominus import Dominus
from dominus.transport.carriers.base import Outgoing, Received

COUNT = 20_000
_MINTED = b'{"success":true,"data":{"access_token":"a.' + b"b" * 600 + b'.c","expires_in":900}}'
_ANSWER = b'{"success":true,"data":{"found":true,"value":1}}'


class AtOnce:
    """Carries nothing anywhere."""

    async def carry(self, out: Outgoing) -> Received:
        return Received(200, {"Dominus-Wire": "json"}, _MINTED if out.path.endswith("mint") else _ANSWER)

    async def aclose(self) -> None:
        return

    def abandon(self) -> None:
        return


async def run(arguments: argparse.Namespace) -> None:
    async with Dominus(url="http://127.0.0.1:9", token="x" * 43) as client:
        pipeline = await client._caller.core.pipeline()
        await pipeline._wire.aclose()
        pipeline._wire.carrier = AtOnce()
        await client.redis.get("k")
        whole: list[float] = []
        guards: list[float] = []
        for _ in range(arguments.rounds):
            began = time.perf_counter()
            for _ in range(COUNT):
                await client.redis.get("k")
            whole.append((time.perf_counter() - began) / COUNT * 1e6)
            guards.append(await _guards(client))
        row("one call, namespace to answer, no network", f"{median(whole):.1f} us")
        row("of which deadline, budget, breaker, retry", f"{median(guards):.1f} us")


async def _guards(client: Dominus) -> float:
    """Time just what guards a happy call: its deadline, the breaker's two looks, the budget's token, the loop."""
    shared = client._caller.shared
    clock, breaker = shared.clock, shared.breaker("redis")
    timeout = (await client._caller.core.pipeline())._timeout
    began = time.perf_counter()
    for _ in range(COUNT):
        now = clock.monotonic()
        shared.is_cold(now)
        async with timeout(30.0):
            while True:
                breaker.enter()
                breaker.success()
                shared.succeeded(clock.monotonic())
                break
    return (time.perf_counter() - began) / COUNT * 1e6
