"""`dominus courier`, as its users meet it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from courier_server import start
from live_support import Live, live
from mail_support import Sink, smtp_server, until

from dominus import Dominus

__all__ = ["live"]


def run(live: Live, *args: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))}
    env = {
        **kept,
        "DOMINUS_URL": live.url,
        "DOMINUS_TOKEN": live.psk,
        "NO_COLOR": "1",
        "PYTHONWARNINGS": "error",
    }
    command = [sys.executable, "-m", "dominus.cli", "courier", *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)


async def test_the_outbox_is_listed_for_people_without_models_and_for_programs_with_them(live: Live) -> None:
    address = f"{uuid.uuid4().hex}@example.com"
    async with Dominus(live.url, live.psk) as client:
        for number in range(3):
            link = f"https://example.org/reset/{number}"
            sent = await client.courier.send_password_reset(address, "h@example.org", "A", link, "Engine")
    shown = run(live, "outbox", "--to", address, "--status", "kept", "-n", "2")
    assert shown.stderr == ""
    lines = shown.stdout.splitlines()
    assert len(lines) == 2
    assert all(
        part in lines[0] for part in ("kept", sent["message_id"], address, "password-reset", "Reset your")
    )
    assert "https://" not in shown.stdout
    found = [json.loads(line) for line in run(live, "outbox", "--to", address, "--json").stdout.splitlines()]
    assert [mail["model"]["action_url"][-1] for mail in found] == ["2", "1", "0"]
    assert run(live, "outbox", "--to", f"x{address}").stdout == ""


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["retry"], 2, "--all-dead"),
        (["retry", "00000000-0000-4000-8000-000000000000", "--all-dead"], 2, "--all-dead"),
        (["retry", "00000000-0000-4000-8000-000000000000"], 1, "there is no mail 00000000"),
        (["retry", "no-id"], 1, "message_ids"),
        (["outbox", "--status", "gone"], 2, "gone"),
        (["outbox", "--to", "nobody"], 1, "nobody"),
    ],
)
def test_mistakes_are_said_without_a_traceback(live: Live, args: list[str], code: int, said: str) -> None:
    done = run(live, *args)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_dead_mails_are_shown_with_what_was_said_and_sent_again_when_they_are_retried(
    tmp_path: Path,
) -> None:
    answers = ["550 \x1b[31mno such user"]
    sink = Sink(on_data=lambda _message: answers[0])
    home = tmp_path / "home"
    with smtp_server(sink) as port:
        process, url = start(home, port)
        try:
            live = Live(url, (home / "token").read_text().strip(), home)
            async with Dominus(live.url, live.psk) as client:
                sent = await client.courier.send_welcome("a@example.com", "h@example.org", "A", "Engine")
                await until(lambda: "dead" in run(live, "outbox").stdout)
                shown = run(live, "outbox", "--status", "dead").stdout
                assert "refused for a@example.com: 550" in shown
                assert "\x1b" not in shown
                answers[0] = "250 OK"
                again = run(live, "retry", sent["message_id"])
                assert (again.stdout, again.stderr) == ("queued 1 mail again\n", "")
                await until(lambda: sink.messages)
                assert run(live, "retry", "--all-dead").stdout == "queued 0 mails again\n"
        finally:
            process.terminate()
            process.communicate(timeout=30)
