"""A killed orchestrator loses no accepted mail, and sends one twice only where its outbox says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from courier_server import AT_ONCE, start
from mail_support import Sink, smtp_server, until

from dominus import Dominus, DominusError

MAIL_COUNT = 150


async def mails_of(client: Dominus) -> list[Any]:
    return [mail async for mail in client.courier.iterate()]


async def test_kill_9_in_the_middle_of_sending_loses_no_mail(tmp_path: Path) -> None:
    sink = Sink()
    home = tmp_path / "home"
    accepted: list[str] = []
    with smtp_server(sink) as port:
        process, url = start(home, port)
        try:
            token = (home / "token").read_text().strip()

            async def send(client: Dominus, number: int) -> None:
                sent = await client.courier.send_welcome(
                    f"u{number}@example.com", "h@example.org", "U", "Engine"
                )
                accepted.append(sent["message_id"])

            async with Dominus(url, token, timeout=3, cold_start_timeout=0) as client:
                sending = [asyncio.create_task(send(client, number)) for number in range(MAIL_COUNT)]
                await until(lambda: len(sink.messages) >= MAIL_COUNT // 5)
                process.kill()
                found = await asyncio.gather(*sending, return_exceptions=True)
                assert all(one is None or isinstance(one, DominusError) for one in found)
            process.communicate(timeout=10)
            assert len(sink.messages) < MAIL_COUNT
            process, url = start(home, port)
            async with Dominus(url, token) as client, asyncio.timeout(40):
                mails = await mails_of(client)
                while any(mail["status"] != "sent" for mail in mails):
                    await asyncio.sleep(0.1)
                    mails = await mails_of(client)
        finally:
            process.terminate()
            process.communicate(timeout=30)
    copies = Counter(str(message["Message-ID"])[1:37] for message in sink.messages)
    assert set(accepted) <= copies.keys()
    assert {mail["message_id"] for mail in mails} == copies.keys()
    uncertain = {mail["message_id"] for mail in mails if mail["may_be_duplicate"]}
    assert {message_id for message_id, count in copies.items() if count > 1} <= uncertain
    assert len(uncertain) <= AT_ONCE
    assert max(copies.values()) <= 2


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["fast shutdown", "kill -9"])
async def test_a_restart_of_postgresql_between_the_relays_answer_and_the_record_loses_and_doubles_nothing(
    how: signal.Signals, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    killed: list[int] = []

    def on_data(_message: Any) -> str:
        if not killed:
            pid_file = next(home.glob("postgres/**/postmaster.pid"))
            killed.append(int(pid_file.read_text().split()[0]))
            os.kill(killed[0], how)
            # No connection answers any more when the relay does.
            ends = time.monotonic() + 10
            while is_running(killed[0]) and time.monotonic() < ends:
                time.sleep(0.01)
        return "250 OK"

    sink = Sink(on_data=on_data)
    with smtp_server(sink) as port:
        process, url = start(home, port)
        try:
            token = (home / "token").read_text().strip()
            async with Dominus(url, token) as client, asyncio.timeout(50):
                sent = await client.courier.send_welcome("a@example.com", "h@example.org", "A", "Engine")
                await until(lambda: sink.messages, 20)
                mail: Any = None
                while mail is None or mail["status"] != "sent":
                    with contextlib.suppress(DominusError):
                        mail = await client.courier.message(sent["message_id"])
                    await asyncio.sleep(0.1)
        finally:
            process.terminate()
            process.communicate(timeout=30)
    assert len(killed) == 1
    # The process lived on and knew: one copy, and nothing to be unsure about.
    assert (len(sink.messages), mail["may_be_duplicate"]) == (1, False)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
