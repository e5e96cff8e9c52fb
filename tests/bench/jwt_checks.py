"""`validate_jwt`: a token that was seen, one that was not, against PyJWT's bare decode; and a guarded route's share."""

from __future__ import annotations

import argparse
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import jwt
from fastapi import FastAPI
from stack import dev, median, row

from dominus import Dominus

COUNT = 2_000
MOST_MICROSECONDS = 100.0


async def _each(call: Callable[[int], Awaitable[Any]], count: int) -> float:
    began = time.perf_counter()
    for number in range(count):
        await call(number)
    return (time.perf_counter() - began) / count * 1e6


async def run(arguments: argparse.Namespace) -> None:
    with dev() as server:
        async with Dominus(url=server.url, token=server.token) as client:
            minted = (await client.auth.mint_jwt("ada", scope=["db:read"]))["access_token"]
            keys = jwt.PyJWKSet.from_dict(dict(await client.auth.get_jwks()))
            key = keys[jwt.get_unverified_header(minted)["kid"]]
            await client.auth.validate_jwt(minted)
            verifier = client._caller.core.verifier
            assert verifier is not None

            async def bare(_: int) -> None:
                jwt.decode(minted, key, algorithms=["RS256"])

            async def seen(_: int) -> None:
                await client.auth.validate_jwt(minted)

            async def unseen(_: int) -> None:
                verifier._young.clear()
                await client.auth.validate_jwt(minted)

            found: dict[str, list[float]] = {"PyJWT's decode": [], "seen before": [], "not seen before": []}
            for _ in range(arguments.rounds):
                for name, call in zip(found, (bare, seen, unseen), strict=True):
                    found[name].append(await _each(call, COUNT))
            row("a token", "us", "of PyJWT", "at most us")
            for name, taken in found.items():
                ratio = median(
                    [mine / theirs for mine, theirs in zip(taken, found["PyJWT's decode"], strict=True)]
                )
                row(
                    name,
                    f"{median(taken):.1f}",
                    f"{ratio:.2f}",
                    f"{MOST_MICROSECONDS:.0f}" if name == "seen before" else "",
                )
            await _routes(client, minted, arguments.rounds)


async def _routes(client: Dominus, token: str, rounds: int) -> None:
    app = FastAPI()

    @app.get("/open")
    async def bare() -> int:
        return 1

    @app.get("/guarded")
    @client.fastapi.jwt
    async def guarded() -> int:
        return 1

    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://web", headers=headers
    ) as web:
        found: dict[str, list[float]] = {"/open": [], "/guarded": []}
        for path in found:
            await web.get(path)
        for _ in range(rounds):
            for path, taken in found.items():
                taken.append(await _each(lambda _, path=path: web.get(path), COUNT // 4))
    row("a route, without a network", "us")
    for path, taken in found.items():
        row(path, f"{median(taken):.0f}")
