"""courier with real engines and real relays: nothing accepted is lost, and what went wrong is to be seen."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from courier_support import MAIL, QUICK, certificate, ended, first_error, mail_of, send, smtp
from mail_support import Postmark, Sink, free_port, postmark_server, smtp_server, until
from pydantic import SecretStr
from server_support import Server, make_server, process_resources

__all__ = ["make_server", "process_resources"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
Make = Callable[..., Awaitable[Server]]


async def test_a_mail_arrives_with_both_parts_and_its_headers(make_server: Make) -> None:
    sink = Sink()
    with smtp_server(sink) as port:
        server = await make_server(**smtp(port))
        sent = await send(
            server, to='"Lovelace, Ada" <ada@example.com>, b@example.com', reply_to="r@example.org", tag="t"
        )
        mail = await ended(server, sent, "sent")
    (message,) = sink.messages
    assert sink.envelopes == [["ada@example.com", "b@example.com"]]
    assert message["To"] == '"Lovelace, Ada" <ada@example.com>, b@example.com'
    assert (message["From"], message["Reply-To"]) == ("Engine <hello@example.org>", "r@example.org")
    assert (message["Subject"], message["X-PM-Tag"]) == ("Welcome to Engine", "t")
    assert message["Message-ID"] == f"<{sent}@example.org>"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert (mail["attempts"], mail["may_be_duplicate"], mail["error"]) == (1, False, None)


async def test_a_temporary_refusal_is_tried_again_with_the_same_bytes_and_a_permanent_one_is_not(
    make_server: Make,
) -> None:
    seen: list[bytes] = []

    def on_data(message: Any) -> str:
        if message["To"] == "never@example.com":
            return "554 no"
        seen.append(message.as_bytes())
        return "451 later" if len(seen) < 3 else "250 OK"

    with smtp_server(Sink(on_data=on_data)) as port:
        server = await make_server(**smtp(port))
        first, second = await send(server, to="a@example.com"), await send(server, to="never@example.com")
        mail, dead = await ended(server, first, "sent"), await ended(server, second, "dead")
    assert (mail["attempts"], len(set(seen))) == (3, 1)
    assert (dead["attempts"], dead["refused"]) == (1, {"never@example.com": "554 no"})
    assert "554" in dead["error"]


async def test_of_several_recipients_each_gets_the_mail_once(make_server: Make) -> None:
    tries: dict[str, int] = {}

    def on_rcpt(address: str) -> str:
        tries[address] = tries.get(address, 0) + 1
        if address.startswith("slow"):
            return "451 greylisted" if tries[address] < 3 else "250 OK"
        return "550 unknown" if address.startswith("gone") else "250 OK"

    sink = Sink(on_rcpt=on_rcpt)
    with smtp_server(sink) as port:
        server = await make_server(**smtp(port))
        sent = await send(server, to="quick@example.com, slow@example.com, gone@example.com")
        mail = await ended(server, sent, "sent")
    assert sink.envelopes == [["quick@example.com"], ["slow@example.com"]]
    assert tries == {"quick@example.com": 1, "slow@example.com": 3, "gone@example.com": 1}
    assert mail["refused"] == {"gone@example.com": "550 unknown"}


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
async def test_mails_wait_for_a_relay_that_is_away_and_a_wrong_login_kills_none(make_server: Make) -> None:
    port = free_port()
    server = await make_server(**smtp(port))
    sent = await send(server)
    async with asyncio.timeout(5):
        while not (mail := await mail_of(server, sent))["error"]:
            await asyncio.sleep(0.02)
    assert mail["status"] == "queued"
    assert mail["error"].startswith("not reached: ")
    with smtp_server(Sink(), port=port):
        assert (await ended(server, sent, "sent"))["attempts"] > 1
    secret = "a-password-of-the-tests"
    with smtp_server(Sink(), auth_required=True, auth_require_tls=False) as other:
        login = {"courier_smtp_user": "u", "courier_smtp_password": SecretStr(secret)}
        server = await make_server(**smtp(other, **login))
        sent = await send(server)
        async with asyncio.timeout(5):
            while not (mail := await mail_of(server, sent))["error"]:
                await asyncio.sleep(0.02)
        assert mail["status"] in {"queued", "sending"}
        assert secret not in str(mail)
        await server.resources.postgres.system.execute(
            "UPDATE dominus.mails SET status = 'dead' WHERE status <> 'sent'"
        )


async def test_a_lost_answer_is_uncertain_and_the_mail_is_sent_again_under_the_same_id(
    make_server: Make,
) -> None:
    ids: list[str] = []

    def on_data(message: Any) -> str:
        ids.append(message["Message-ID"])
        if len(ids) == 1:
            raise ConnectionResetError
        return "250 OK"

    class Cut(Sink):
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            try:
                return await super().handle_DATA(server, session, envelope)
            except ConnectionResetError:
                server.transport.abort()
                return "421 gone"

    with smtp_server(Cut(on_data=on_data)) as port:
        server = await make_server(**smtp(port))
        mail = await ended(server, await send(server), "sent")
    assert (len(ids), len(set(ids))) == (2, 1)
    assert (mail["attempts"], mail["may_be_duplicate"]) == (2, True)


async def test_replicas_share_the_mails_and_send_none_twice(make_server: Make) -> None:
    sink = Sink()
    with smtp_server(sink) as port:
        one, two = await make_server(**smtp(port)), await make_server(**smtp(port))
        ids = await asyncio.gather(*(send(one if n % 2 else two) for n in range(60)))
        await until(lambda: len(sink.messages) >= 60)
        for message_id in ids:
            await ended(one, message_id, "sent")
    assert len({message["Message-ID"] for message in sink.messages}) == len(sink.messages) == 60


async def test_a_mail_whose_process_died_is_uncertain_and_sent_again(make_server: Make) -> None:
    sink = Sink()
    with smtp_server(sink) as port:
        server = await make_server(**smtp(port, courier_timeout=0.5))
        idle = await make_server()
        sent = await send(idle)
        # As a process leaves it that was killed while it was sending.
        await server.resources.postgres.system.execute(
            "UPDATE dominus.mails SET status = 'sending', attempts = 1, finished_at = NULL,"
            " sending_since = now() - interval '1 hour' WHERE id = $1",
            sent,
        )
        mail = await ended(server, sent, "sent")
    assert (mail["attempts"], mail["may_be_duplicate"], len(sink.messages)) == (2, True, 1)


async def test_a_key_is_one_mail(make_server: Make) -> None:
    server = await make_server()
    first = await send(server, idempotency_key="receipt-1")
    assert await send(server, idempotency_key="receipt-1") == first
    assert await send(server, idempotency_key="receipt-1", project="other") != first
    other = {**MAIL, "to": "bea@example.com", "idempotency_key": "receipt-1"}
    assert (await server("POST", "/api/courier/send", other)).code == "mail_key_reused"
    turned = {**MAIL, "model": dict(reversed(MAIL["model"].items()))}
    assert await send(server, **turned, idempotency_key="receipt-1") == first
    many = await asyncio.gather(*(send(server, idempotency_key="receipt-2") for _ in range(10)))
    assert len(set(many)) == 1


@pytest.mark.parametrize("field", ["to", "from", "reply_to", "tag", "subject"])
async def test_a_line_break_begins_no_second_header(field: str, make_server: Make) -> None:
    server = await make_server()
    evil = "x\r\nBcc: eve@example.com"
    if field == "subject":
        changed: Any = {"model": {"name": "Ada", "product_name": evil}}
    else:
        changed = {field: f"{evil} <a@example.com>"}
    reply = await server("POST", "/api/courier/send", {**MAIL, **changed})
    assert (reply.status, reply.code) == (400, "invalid_subject" if field == "subject" else "validation")


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"template_alias": "welcom"}, "template_not_found", "'welcom'"),
        ({"model": {"name": "Ada"}}, "model_key_missing", "'product_name'"),
        ({"model": {"name": "x" * 300_000, "product_name": "P"}}, "invalid_model", "bytes"),
        ({"model": {"name": "\0", "product_name": "P"}}, "invalid_text", ""),
    ],
)
async def test_what_is_wrong_with_a_mail_is_said_at_once(
    changed: Any, code: str, said: str, make_server: Make
) -> None:
    server = await make_server()
    reply = await server("POST", "/api/courier/send", {**MAIL, **changed})
    assert reply.code == code
    assert said in reply.document["error"]


async def test_senders_are_those_of_the_setting(make_server: Make) -> None:
    server = await make_server(courier_senders="hello@example.org, @example.net")
    await send(server)
    await send(server, **{"from": "x@EXAMPLE.net"})
    for sender in ("other@example.org", "x@sub.example.net", "hello@example.org <x@evil.com>"):
        reply = await server("POST", "/api/courier/send", {**MAIL, "from": sender})
        assert (reply.status >= 400, reply.code in {"sender_not_allowed", "validation"}) == (True, True)


async def test_templates_have_versions_and_replace_the_built_in_ones(make_server: Make) -> None:
    server = await make_server()
    token = server.token(project="versions")
    for subject in ("One {{name}}", "Two {{name}}"):
        body = {"subject": subject, "text": "{{name}}"}
        await server("PUT", "/api/courier/templates/welcome", body, token=token)
    sent = await send(server, project="versions")
    mail = (await server("GET", f"/api/courier/outbox/{sent}", token=token)).data
    assert (mail["subject"], mail["template_version"], mail["html"]) == ("Two Ada", 2, None)
    versions = (await server("GET", "/api/courier/templates/welcome/versions", token=token)).data["templates"]
    assert [one["version"] for one in versions] == [2, 1, 0]
    assert (await server("GET", f"/api/courier/outbox/{sent}")).code == "message_not_found"
    assert (await server("DELETE", "/api/courier/templates/welcome", token=token)).data["deleted"] is True
    assert (await server("GET", "/api/courier/templates/welcome", token=token)).data["version"] == 0


async def test_the_outbox_is_walked_by_its_cursor(make_server: Make) -> None:
    server = await make_server()
    token = server.token(project="walk")
    ids = [await send(server, project="walk") for _ in range(5)]
    found: list[str] = []
    path = "/api/courier/outbox?limit=2"
    while path:
        page = (await server("GET", path, token=token)).data
        found += [item["message_id"] for item in page["items"]]
        path = f"/api/courier/outbox?limit=2&cursor={page['cursor']}" if page["cursor"] else ""
    assert found == ids[::-1]


async def test_a_page_of_large_models_ends_early_and_the_next_one_goes_on(make_server: Make) -> None:
    server = await make_server()
    token = server.token(project="large")
    model = {"name": "Ada", "product_name": "P", "blob": "x" * 250_000}
    for _ in range(20):
        await send(server, project="large", model=model)
    ids: list[str] = []
    path, pages = "/api/courier/outbox?limit=500", 0
    while path:
        reply = await server("GET", path, token=token)
        assert len(reply.body) < 6_000_000
        ids += [item["message_id"] for item in reply.data["items"]]
        path = f"/api/courier/outbox?limit=500&cursor={reply.data['cursor']}" if reply.data["cursor"] else ""
        pages += 1
    assert (len(ids), len(set(ids)), pages) == (20, 20, 2)


async def test_mails_are_found_by_a_whole_address(make_server: Make) -> None:
    server = await make_server()
    token = server.token(project="whom")
    sent = await send(server, project="whom", to='"x@y.zz, Ada" <ada@example.com>, bea@example.com')
    for address, found in (("ADA@example.com", [sent]), ("bea@example.com", [sent]), ("da@example.com", [])):
        page = (await server("GET", f"/api/courier/outbox?to={address}", token=token)).data
        assert [item["message_id"] for item in page["items"]] == found


async def test_postmark_gets_the_mail_and_its_codes_are_understood(make_server: Make) -> None:
    postmark = Postmark()
    with postmark_server(postmark) as url:
        token = SecretStr("postmark-token-of-the-tests")
        options = {
            **QUICK,
            "courier_backend": "postmark",
            "courier_postmark_token": token,
            "courier_postmark_url": url,
        }
        server = await make_server(**options)
        sent = await send(server, tag="t")
        await ended(server, sent, "sent")
        headers, body = postmark.requests[0]
        assert headers["X-Postmark-Server-Token"] == "postmark-token-of-the-tests"
        assert (body["To"], body["From"], body["Tag"]) == (MAIL["to"], MAIL["from"], "t")
        assert body["Headers"][0] == {"Name": "Message-ID", "Value": f"<{sent}@example.org>"}
        postmark.answer = (422, {"ErrorCode": 406, "Message": "inactive"}, {})
        dead = await ended(server, await send(server), "dead")
        assert "406" in dead["error"]
        postmark.answer = (500, {"ErrorCode": 0, "Message": "oops"}, {})
        retried = await send(server)
        async with asyncio.timeout(5):
            while (await mail_of(server, retried))["attempts"] < 2:
                await asyncio.sleep(0.02)
        postmark.answer = (401, {"ErrorCode": 10, "Message": "token"}, {})
        waiting = await send(server)
        async with asyncio.timeout(5):
            while not (mail := await mail_of(server, waiting))["error"]:
                await asyncio.sleep(0.02)
        assert mail["status"] == "queued"
        postmark.answer = (200, {"ErrorCode": 0, "Message": "OK"}, {})
        await ended(server, retried, "sent")
        await ended(server, waiting, "sent")
        reply = await server("POST", "/api/courier/retry", {"message_ids": [dead["message_id"]]})
        assert reply.data == {"retried": 1}
        await ended(server, dead["message_id"], "sent")
        assert (await server("POST", "/api/courier/retry", {"message_ids": [sent]})).code == "wrong_state"


async def test_starttls_is_required_and_the_certificate_is_checked(
    make_server: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, sink = certificate(tmp_path), Sink()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with smtp_server(sink) as in_clear, smtp_server(sink, tls_context=context, require_starttls=True) as port:
        server = await make_server(**smtp(in_clear, courier_smtp_tls="starttls"))
        assert (await first_error(server, await send(server))).startswith("not reached: ")
        await server.app.stop()
        server = await make_server(**smtp(port, courier_smtp_tls="starttls"))
        assert (await first_error(server, await send(server))).startswith("not reached: ")
        assert not sink.messages
        await server.app.stop()
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        server = await make_server(**smtp(port, courier_smtp_tls="starttls"))
        await ended(server, await send(server), "sent")
    assert len(sink.messages) == 1
