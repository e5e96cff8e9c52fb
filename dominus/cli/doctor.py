"""`dominus doctor`: what is set, what answers, what is wrong and how to fix it."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import hashlib
import importlib.util
import os
import ssl
import stat
import sys
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, cast

import httpx
import typer
from pydantic_core import to_json

from dominus._version import __version__
from dominus.cli.report import coloured
from dominus.client import Dominus
from dominus.errors import DominusError
from dominus.hints import install_command, shell_command
from dominus.settings import Settings, load_settings

__all__ = ["Finding", "Verdict", "judge_answer", "run_doctor"]

PROBE_SECONDS = 5.0
MAX_SKEW_SECONDS = 60.0
SLOW_MS = 250.0
_NO_TLS = {
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
}
"""What OpenSSL says, version by version, of an answer that is no TLS."""
_EXTRAS = {
    "orchestrator": ("asyncpg", "fakeredis", "prometheus_client", "redis", "starlette", "uvicorn"),
}


class Verdict(enum.Enum):
    """How a finding is shown; WRONG makes the exit code 1."""

    OK = ("ok", typer.colors.GREEN)
    NOTE = ("--", typer.colors.BRIGHT_BLACK)
    WARN = ("warn", typer.colors.YELLOW)
    WRONG = ("WRONG", typer.colors.RED)


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    verdict: Verdict
    subject: str
    text: str
    hint: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """Return what programs read; verdicts are `ok`, `note`, `warn` and `wrong`."""
        return {
            "verdict": self.verdict.name.lower(),
            "subject": self.subject,
            "text": self.text,
            "hint": self.hint,
        }


def run_doctor(*, is_json: bool = False) -> int:
    """Print all findings; return the exit code."""
    findings: list[Finding] = []
    for finding in _examine():
        findings.append(finding)
        if not is_json:
            _show(finding)
    wrong_count = sum(finding.verdict is Verdict.WRONG for finding in findings)
    if is_json:
        found = {"wrong_count": wrong_count, "findings": [finding.as_json() for finding in findings]}
        typer.echo(to_json(found, indent=2))
        return 1 if wrong_count else 0
    typer.echo("")
    typer.echo(
        f"{wrong_count} thing{'s are' if wrong_count > 1 else ' is'} wrong" if wrong_count else "all is well"
    )
    return 1 if wrong_count else 0


def _show(finding: Finding) -> None:
    word, colour = finding.verdict.value
    typer.echo(f"{coloured(f'{word:<5}', colour)}  {finding.subject:<13} {finding.text}")
    if finding.hint:
        typer.echo(f"{'':<21}-> {finding.hint}")


def _examine() -> Iterator[Finding]:
    yield from _installation()
    try:
        settings = load_settings()
    except DominusError as error:
        yield _wrong("settings", error, "correct or unset the variable")
        return
    yield from _home(settings)
    if not settings.url:
        holder = _holder(settings.home)
        yield Finding(
            Verdict.WRONG,
            "DOMINUS_URL",
            "is not set, so a program would not know where to call",
            f"{holder} runs here: paste the two export lines that it printed into this shell"
            if holder
            else f"run `{shell_command('dev')}` and paste its two export lines into this shell, "
            "or export DOMINUS_URL=embedded",
        )
        return
    is_ready = True
    for finding in _client(settings):
        is_ready &= finding.verdict is not Verdict.WRONG
        yield finding
    if settings.is_embedded:
        yield from asyncio.run(_ask_embedded())
    elif is_ready:
        yield from asyncio.run(_ask(settings))


def _installation() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(Verdict.OK, "dominus", f"{__version__} on Python {version}, {sys.platform}")
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            text = f"not installed ({', '.join(missing)}): fine for a client of a server elsewhere"
            yield Finding(Verdict.NOTE, extra, text, install_command(extra))
        else:
            yield Finding(Verdict.OK, extra, "installed")


def _home(settings: Settings) -> Iterator[Finding]:
    home = settings.home.expanduser().absolute()
    if not home.is_dir():
        yield Finding(Verdict.NOTE, "home", f"{home} does not exist yet; `{shell_command('dev')}` makes it")
        return
    found = home.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        yield Finding(
            Verdict.WARN,
            "home",
            f"{home} belongs to user {found.st_uid}",
            "set DOMINUS_HOME to a folder of your own",
        )
        return
    if mode & 0o077:
        yield Finding(Verdict.WRONG, "home", f"{home} is open to others ({mode:04o})", f"chmod 700 {home}")
    else:
        yield Finding(Verdict.OK, "home", f"{home} ({mode:04o}), {_holder(home) or 'nobody'} uses it")
    for name in ("token", "dsn", "master-key"):
        path = home / name
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield Finding(Verdict.WRONG, name, f"{path} is readable by others", f"chmod 600 {path}")


def _holder(home: Path) -> str | None:
    """Return who holds a home now; the lock file itself stays behind when nobody does."""
    try:
        from dominus.orchestrator.home import LOCK, hold
    except ModuleNotFoundError:
        return None
    path = home.expanduser().absolute() / LOCK
    if not path.exists():
        return None
    try:
        hold(path.parent, "dominus doctor").release()
    except DominusError as error:
        return error.message.partition(" is in use by ")[2] or "another process"
    return None


def _client(settings: Settings) -> Iterator[Finding]:
    try:
        text = (
            "embedded: an orchestrator inside each process"
            if settings.is_embedded
            else settings.checked_url()
        )
        yield Finding(Verdict.OK, "DOMINUS_URL", text)
    except DominusError as error:
        yield _wrong("DOMINUS_URL", error)
    if not settings.is_embedded:
        yield _token(settings)
    project, environment = settings.project or "the token's", settings.environment or "the token's"
    yield Finding(Verdict.OK, "project", f"{project}, environment: {environment}")


def _token(settings: Settings) -> Finding:
    try:
        token = settings.checked_token()
    except DominusError as error:
        return _wrong("DOMINUS_TOKEN", error)
    # Enough to compare two machines, and no help in finding a token of 256 random bits.
    digest = hashlib.sha256(token.encode()).hexdigest()[:8]
    return Finding(Verdict.OK, "DOMINUS_TOKEN", f"{len(token)} characters, sha256 begins {digest}")


async def _ask_embedded() -> list[Finding]:
    try:
        async with Dominus() as client:
            return _engines(cast("dict[str, Any]", await client.health.check()))
    except DominusError as error:
        return [_wrong("embedded", error)]


async def _ask(settings: Settings) -> list[Finding]:
    url = settings.checked_url()
    began = time.perf_counter()
    try:
        async with httpx.AsyncClient(timeout=PROBE_SECONDS) as client:
            response = await client.get(f"{url}/api/health")
    except (httpx.HTTPError, OSError) as error:
        return [_no_answer(url, error)]
    took = (time.perf_counter() - began) * 1000
    findings = judge_answer(response, took, time.time())
    if not any(finding.verdict is Verdict.WRONG for finding in findings if finding.subject == "server"):
        findings.append(await _try_token())
    return findings


def _no_answer(url: str, error: Exception) -> Finding:
    """Say why nothing answered, from what the network and TLS say."""
    reason = str(error) or type(error).__name__
    other = url.replace("https://", "http://", 1)
    text, hint = (
        f"{url} does not answer: {reason}",
        f"is it running (`{shell_command('dev')}`), and is DOMINUS_URL right?",
    )
    failure = _tls_failure(error)
    if isinstance(failure, ssl.SSLCertVerificationError):
        text = f"{url} has a certificate that is not trusted: {failure.verify_message}"
        hint = "name its authority's certificate in SSL_CERT_FILE, or correct the host in DOMINUS_URL"
    elif failure is not None and failure.reason in _NO_TLS:
        text, hint = f"{url} does not speak TLS there", f"use http:// : export DOMINUS_URL={other}"
    elif isinstance(error, httpx.RemoteProtocolError) and url.startswith("http://"):
        hint = f"does it speak TLS? Then export DOMINUS_URL={url.replace('http://', 'https://', 1)}"
    return Finding(Verdict.WRONG, "server", text, hint)


def _tls_failure(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def judge_answer(response: httpx.Response, took_ms: float, now: float) -> list[Finding]:
    """Judge the answer of /api/health: is it a Dominus server, in which dialect, how are engines and clock."""
    try:
        body: Any = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or "status" not in body:
        kind = response.headers.get("content-type", "no content type")
        text = f"answers, but is no Dominus server: status {response.status_code}, {kind}"
        return [Finding(Verdict.WRONG, "server", text, "correct DOMINUS_URL")]
    health = cast("dict[str, Any]", body)
    dialect = "JSON" if response.headers.get("dominus-wire") == "json" else "base64 of JSON"
    text = f"answers in {took_ms:.0f} ms, version {health.get('version', 'unknown')}, speaks {dialect}"
    return [Finding(Verdict.OK, "server", text), *_engines(health), *_clock(response, now)]


def _engines(health: dict[str, Any]) -> list[Finding]:
    findings: list[Finding] = []
    for name, facts in health.get("engines", {}).items():
        if facts.get("status") == "degraded":
            text = f"answers, and takes no writes ({facts.get('error', 'no reason given')})"
            findings.append(Finding(Verdict.WRONG, name, text, "make space: docs/operations.md"))
            continue
        if facts.get("status") != "ok":
            text = f"does not answer ({facts.get('error', 'no reason given')})"
            findings.append(
                Finding(Verdict.WRONG, name, text, "the server's log and its *_URL settings say more")
            )
            continue
        latency = float(facts.get("latency_ms", 0.0))
        verdict = Verdict.WARN if latency > SLOW_MS else Verdict.OK
        findings.append(Finding(verdict, name, f"answers in {latency:.1f} ms"))
    if not findings:
        verdict = Verdict.OK if health.get("status") in {"ok", "healthy"} else Verdict.WRONG
        findings.append(Finding(verdict, "health", str(health.get("status"))))
    return findings


def _clock(response: httpx.Response, now: float) -> list[Finding]:
    try:
        server = parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return []
    # The header counts whole seconds.
    skew = now - server
    if abs(skew) <= MAX_SKEW_SECONDS:
        return [Finding(Verdict.OK, "clock", f"agrees with the server's within {max(1.0, abs(skew)):.0f} s")]
    text = f"is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's: tokens seem expired or early"
    return [Finding(Verdict.WRONG, "clock", text, "synchronise the clocks (NTP)")]


async def _try_token() -> Finding:
    try:
        async with Dominus(cold_start_timeout=PROBE_SECONDS) as client:
            began = time.perf_counter()
            await client.health.ping(timeout=2 * PROBE_SECONDS)
            took = (time.perf_counter() - began) * 1000
    except DominusError as error:
        return _wrong(
            "token", error, "is DOMINUS_TOKEN this server's? The one of `dominus dev` is in HOME/token"
        )
    return Finding(Verdict.OK, "token", f"accepted, {took:.0f} ms with the mint")


def _wrong(subject: str, error: DominusError, hint: str | None = None) -> Finding:
    return Finding(Verdict.WRONG, subject, error.message, error.hint or hint)
