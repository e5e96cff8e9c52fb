"""Proxies of the environment: used where one is named, with no login out of `.netrc` in the way of the token."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TOKEN
from raw_server import Exchange, answers, raw_server

from dominus import Dominus
from dominus.errors import DominusConnectionError, ValidationError

HIT = answers({"found": True, "value": 7})


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_a_call_goes_through_the_proxy_of_the_environment_with_its_own_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    netrc = tmp_path / "netrc"
    netrc.write_text(
        "machine orchestrator.test login someone password else\ndefault login any password any\n"
    )
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with raw_server(HIT) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with Dominus("http://orchestrator.test", TOKEN, cold_start_timeout=0) as client:
            assert await client.redis.get("k") == 7
        assert proxy.seen[0].path.startswith("http://orchestrator.test/api/")
        assert proxy.seen[0].headers["authorization"] == "Bearer token-1"


async def test_a_login_of_the_proxy_itself_is_sent_to_the_proxy(monkeypatch: pytest.MonkeyPatch):
    async with raw_server(HIT) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://user:secret@"))
        async with Dominus("http://orchestrator.test", TOKEN, cold_start_timeout=0) as client:
            assert await client.redis.get("k") == 7
        assert proxy.seen[0].headers["proxy-authorization"].startswith("Basic ")
        assert proxy.seen[0].headers["authorization"] == "Bearer token-1"


async def test_hosts_of_no_proxy_are_reached_directly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with raw_server(HIT) as server, Dominus(server.url, TOKEN, cold_start_timeout=0) as client:
        assert await client.redis.get("k") == 7


@pytest.mark.parametrize(
    "proxy", ["socks5://user:secret@127.0.0.1:9", "http://", "http://user:secret@h:port"]
)
async def test_a_proxy_that_is_none_is_a_typed_error_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, proxy: str
):
    monkeypatch.setenv("http_proxy", proxy)
    async with Dominus("http://orchestrator.test", TOKEN, cold_start_timeout=0) as client:
        with pytest.raises(ValidationError, match="http_proxy") as caught:
            await client.redis.get("k")
    assert "secret" not in str(caught.value)


async def test_a_proxy_that_is_away_is_a_connection_error_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    async with Dominus("http://orchestrator.test", TOKEN, cold_start_timeout=0) as client:
        with pytest.raises(DominusConnectionError, match="not reached") as caught:
            await client.redis.get("k", timeout=5)
    assert "secret" not in str(caught.value)


async def test_a_proxy_that_refuses_a_tunnel_is_a_connection_error_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
):
    async with raw_server(HIT) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("http://", "http://user:secret@"))

        async def refuse(exchange: Exchange) -> None:
            await exchange.send(b"", 407)

        proxy.script = [refuse]
        async with Dominus("https://orchestrator.test", TOKEN, cold_start_timeout=0) as client:
            with pytest.raises(DominusConnectionError, match="the proxy answered 407") as caught:
                await client.redis.get("k", timeout=5)
    assert "secret" not in str(caught.value)
