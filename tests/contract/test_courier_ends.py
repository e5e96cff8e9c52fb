"""courier when something ends: the server, the relay's patience, a mail's time; and what TLS asks for."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiosmtpd.smtp import AuthResult
from courier_support import certificate, ended, first_error, mail_of, send, smtp
from mail_support import Sink, smtp_server, until
from pydantic import SecretStr
from server_support import Server, make_server, process_resources

from dominus.orchestrator.engines.mail.message import Mail
from dominus.orchestrator.engines.mail.smtp import SmtpRelay, SmtpServer
from dominus.orchestrator.outbox.store import purge

__all__ = ["make_server", "process_resources"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
Make = Callable[..., Awaitable[Server]]
MADE = Mail(
    message_id="00000000-0000-4000-8000-000000000000",
    sender="h@example.org",
    to="a@b.cd",
    recipients=("a@b.cd",),
    subject="s",
    html=None,
    text="t",
    tag=None,
    reply_to=None,
    submitted_at=dt.datetime.now(dt.UTC),
)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _no_mail_of_another_test_waits(make_server: Make) -> None:
    server = await make_server()
    await server.resources.postgres.system.execute(
        "UPDATE dominus.mails SET status = 'dead' WHERE status IN ('queued', 'uncertain', 'sending')"
    )


async def test_a_server_that_stops_waits_for_the_relays_answer(make_server: Make) -> None:
    began, answer = threading.Event(), threading.Event()

    def on_data(_message: Any) -> str:
        began.set()
        answer.wait(10)
        return "250 OK"

    sink = Sink(on_data=on_data)
    with smtp_server(sink) as port:
        server, other = await make_server(**smtp(port)), await make_server()
        sent = await send(server)
        await until(began.is_set)
        stopping = asyncio.create_task(server.app.stop())
        await asyncio.sleep(0.1)
        assert not stopping.done()
        answer.set()
        await stopping
        mail = await mail_of(other, sent)
    assert (mail["status"], mail["attempts"], mail["may_be_duplicate"]) == ("sent", 1, False)


async def test_a_server_that_stops_waits_no_longer_than_its_grace_and_says_that_it_does_not_know(
    make_server: Make,
) -> None:
    began, answer = threading.Event(), threading.Event()

    def on_data(_message: Any) -> str:
        began.set()
        answer.wait(10)
        return "250 OK"

    with smtp_server(Sink(on_data=on_data)) as port:
        server, other = await make_server(**smtp(port, shutdown_grace=0.2)), await make_server()
        sent = await send(server)
        await until(began.is_set)
        before = asyncio.get_running_loop().time()
        await server.app.stop()
        assert asyncio.get_running_loop().time() - before < 5
        answer.set()
        mail = await mail_of(other, sent)
        assert (mail["status"], mail["may_be_duplicate"]) == ("uncertain", True)
        assert mail["error"] == "the server stopped before the relay answered"
        await other.resources.postgres.system.execute(
            "UPDATE dominus.mails SET status = 'dead' WHERE id = $1", sent
        )


async def test_a_mail_that_this_process_is_sending_is_not_taken_for_lost_however_long_the_database_was_away(
    make_server: Make,
) -> None:
    """As after an outage of PostgreSQL that is longer than a lease: what became of the mail is known, and recorded."""
    began, answer = threading.Event(), threading.Event()

    def on_data(_message: Any) -> str:
        began.set()
        answer.wait(10)
        return "250 OK"

    sink = Sink(on_data=on_data)
    with smtp_server(sink) as port:
        server = await make_server(**smtp(port, courier_timeout=2.0))
        sent = await send(server)
        await until(began.is_set)
        await server.resources.postgres.system.execute(
            "UPDATE dominus.mails SET sending_since = now() - interval '1 hour' WHERE id = $1", sent
        )
        # The worker looks for lost mails each quarter of a lease, 1.25 s.
        for _ in range(15):
            assert (await mail_of(server, sent))["status"] == "sending"
            await asyncio.sleep(0.1)
        answer.set()
        mail = await ended(server, sent, "sent")
    assert (mail["attempts"], mail["may_be_duplicate"], len(sink.messages)) == (1, False, 1)


async def test_a_process_that_was_stopped_beyond_its_lease_changes_nothing_and_the_second_copy_is_seen(
    make_server: Make,
) -> None:
    """As after SIGSTOP, or a virtual machine that was paused: another replica has taken the mail over meanwhile."""
    began, answer = threading.Event(), threading.Event()

    def on_data(_message: Any) -> str:
        began.set()
        answer.wait(10)
        return "550 too late"

    sink = Sink()
    with smtp_server(Sink(on_data=on_data)) as slow, smtp_server(sink) as quick:
        stopped = await make_server(**smtp(slow))
        sent = await send(stopped)
        await until(began.is_set)
        other = await make_server(**smtp(quick, courier_timeout=0.5))
        # Its lease, 2 s, is over as soon as the row says so; the stopped one's own is 11 s.
        await other.resources.postgres.system.execute(
            "UPDATE dominus.mails SET sending_since = now() - interval '1 hour' WHERE id = $1", sent
        )
        mail = await ended(other, sent, "sent")
        assert (mail["attempts"], mail["may_be_duplicate"], len(sink.messages)) == (2, True, 1)
        answer.set()
        await stopped.app.stop()
        assert await mail_of(other, sent) == mail


async def test_a_mail_too_old_is_a_dead_letter_that_can_be_queued_again(make_server: Make) -> None:
    answers = ["451 later"]
    sink = Sink(on_data=lambda _message: answers[0])
    with smtp_server(sink) as port:
        server = await make_server(**smtp(port))
        sent = await send(server)
        async with asyncio.timeout(10):
            while (await mail_of(server, sent))["attempts"] < 2:
                await asyncio.sleep(0.02)
        await server.resources.postgres.system.execute(
            "UPDATE dominus.mails SET give_up_at = now() WHERE id = $1", sent
        )
        dead = await ended(server, sent, "dead")
        assert dead["error"] == "given up: 451 later"
        assert (dead["next_attempt_at"], dead["finished_at"] is None) == (None, False)
        answers[0] = "250 OK"
        token = server.token("courier:admin")
        assert (await server("POST", "/api/courier/retry", {"all_dead": True}, token=token)).data[
            "retried"
        ] >= 1
        assert (await ended(server, sent, "sent"))["error"] is None


async def test_finished_mails_are_deleted_after_the_retention_and_no_others(make_server: Make) -> None:
    server = await make_server()
    system = server.resources.postgres.system
    ids = {
        status: await send(server) for status in ("sent", "dead", "kept", "queued", "uncertain", "sending")
    }
    for status, sent in ids.items():
        await system.execute(
            "UPDATE dominus.mails SET status = $2, finished_at = now() - interval '31 days', due_at = now() + interval"
            " '1 hour', sending_since = now() WHERE id = $1",
            sent,
            status,
        )
    young = await send(server)
    assert await purge(system, 30) == 3
    left = {
        str(row["id"])
        for row in await system.fetch(
            "SELECT id FROM dominus.mails WHERE id = ANY($1)", [*ids.values(), young]
        )
    }
    assert left == {ids["queued"], ids["uncertain"], ids["sending"], young}
    await system.execute("UPDATE dominus.mails SET status = 'dead' WHERE id = ANY($1)", list(left))


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
async def test_tls_from_the_start_is_spoken_and_the_certificate_is_checked(
    make_server: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on port 465: aiosmtpd speaks TLS at once, and asks for a login."""
    file, sink = certificate(tmp_path), Sink()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    def login(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"u", b"a-password-of-the-tests"))

    options = {"authenticator": login, "auth_required": True, "auth_require_tls": False}
    with smtp_server(sink, ssl_context=context, **options) as port:
        more = {
            "courier_smtp_tls": "tls",
            "courier_smtp_user": "u",
            "courier_smtp_password": SecretStr("a-password-of-the-tests"),
        }
        server = await make_server(**smtp(port, **more))
        assert (await first_error(server, await send(server))).startswith("not reached: ")
        assert not sink.messages
        await server.app.stop()
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        server = await make_server(**smtp(port, **more))
        assert (await ended(server, await send(server), "sent"))["attempts"] == 1
    assert len(sink.messages) == 1


def open_sockets() -> int:
    return sum(_is_socket(one) for one in Path("/proc/self/fd").iterdir())


def _is_socket(descriptor: Path) -> bool:
    try:
        return str(descriptor.readlink()).startswith("socket:")
    except OSError:
        return False


async def test_a_relay_without_starttls_or_with_a_wrong_certificate_leaves_no_connection_open(
    tmp_path: Path,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    with smtp_server(Sink()) as in_clear, smtp_server(Sink(), tls_context=context) as unknown:
        for port in (in_clear, unknown):
            relay = SmtpRelay(SmtpServer("127.0.0.1", port, "starttls"), timeout=5.0)
            before = open_sockets()
            for _ in range(5):
                delivery = await relay.deliver(MADE)
                assert (delivery.is_away, delivery.is_uncertain) == (True, False)
                assert delivery.error is not None
                assert delivery.error.startswith("not reached: ")
            await relay.aclose()
            # The other side of each is in this process, too, and closes when it is told.
            await until(lambda: open_sockets() <= before)  # noqa: B023 - called at once


async def test_a_relay_that_never_says_hello_is_away_and_has_not_perhaps_taken_the_mail() -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        relay = SmtpRelay(SmtpServer("127.0.0.1", port, "none"), timeout=0.4)
        async with asyncio.timeout(0.4):
            delivery = await relay.deliver(MADE)
        # It has hung up.
        await asyncio.wait_for(left.wait(), 5)
        assert (delivery.is_away, delivery.is_uncertain) == (True, False)
        await relay.aclose()
