"""A `dominus dev` that sends its mails to a relay of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

AT_ONCE = 4


def start(home: Path, port: int) -> tuple[subprocess.Popen[str], str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))}
    settings = {
        "BACKEND": "smtp",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(port),
        "SMTP_TLS": "none",
        "TIMEOUT": "1",
        "CONCURRENCY": str(AT_ONCE),
        "RETRY_BASE": "0.05",
    }
    env = {**kept, **{f"DOMINUS_COURIER_{name}": value for name, value in settings.items()}}
    command = [sys.executable, "-m", "dominus.cli", "dev", "--home", str(home), "--port", "0"]
    # What its embedded PostgreSQL writes outlives it; a pipe would be held open.
    log = (home.parent / "stderr").open("a")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
    log.close()
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"DOMINUS_URL=(\S+)", line):
            return process, found[1]
    raise AssertionError((home.parent / "stderr").read_text())
