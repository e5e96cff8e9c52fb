"""What the command line reads and writes for people and programs: rows, .env, JSON, colours, completion."""

from __future__ import annotations

import http.server
import json
import os
import pty
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dominus.cli.rows import UsageError, parsed, read_rows
from dominus.testing import LocalServer

COMMAND = [sys.executable, "-m", "dominus"]
TOKEN = "token-of-the-tests-0123456789-0123456789-0123456789"


def run(*args: str, stdin: str = "", cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))}
    return subprocess.run(
        [*COMMAND, *args],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        input=stdin,
        cwd=cwd,
        env={**kept, "PYTHONWARNINGS": "error", **env},
    )


# --- rows and JSON


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('[{"a": 1, "b": null}, {"a": 2, "b": "x"}]', "json"),
        ('{"a": 1, "b": null}\n\n{"a": 2, "b": "x"}\n', "jsonl"),
        ('a,b\r\n1,\r\n2,"x"\r\n', "csv"),
        ("\ufeffa,b\n1,\n2,x", "csv"),
    ],
    ids=["json", "jsonl", "csv", "csv-of-a-spreadsheet"],
)
def test_rows_are_read_by_what_they_look_like_and_as_they_are_said_to_be(text: str, form: str):
    rows = list(read_rows(text, "rows"))
    assert [{name: value and str(value) for name, value in row.items()} for row in rows] == [
        {"a": "1", "b": None},
        {"a": "2", "b": "x"},
    ]
    assert list(read_rows(text, "rows", form)) == rows


@pytest.mark.parametrize(
    ("text", "form", "said"),
    [
        ('[{"a": 1},', None, r"rows is broken JSON: .* line 1 column \d+"),
        ("7", "json", "rows is no JSON list of rows"),
        ('{"a": 1}\n{"a": }\n', None, r"rows, line 2 is broken JSON: .* at column 7"),
        ("a,b\n1,2\n3\n", None, "line 3 of the CSV has 1 cells, its first line 2"),
        ("a,a\n1,2\n", None, "names a column twice"),
        ('a,b\n"1,2\n', None, "of the CSV: unexpected end of data"),
    ],
)
def test_broken_rows_say_where(text: str, form: str | None, said: str):
    with pytest.raises(UsageError, match=said):
        list(read_rows(text, "rows", form))


def test_cells_hold_commas_and_line_ends():
    assert list(read_rows('a,b\n"1,\n2","say ""x"""\n', "rows")) == [{"a": "1,\n2", "b": 'say "x"'}]


def test_text_stays_text_and_broken_json_is_an_error():
    assert parsed("just words", "value") == "just words"
    assert parsed("NaN", "value") == "NaN"
    assert parsed('"[draft]"', "value") == "[draft]"
    with pytest.raises(UsageError, match=r"filters is broken JSON: .*column \d+.*filters='\"\.\.\.\"'"):
        parsed('{"status": ', "filters")


@pytest.fixture(scope="module")
def server(dominus_server: LocalServer) -> dict[str, str]:
    return {"DOMINUS_URL": dominus_server.url, "DOMINUS_TOKEN": dominus_server.token}


def test_rows_come_from_stdin_and_files(server: dict[str, str], tmp_path: Path):
    columns = '[{"name": "id", "type": "INTEGER", "primary_key": true}, {"name": "note", "type": "TEXT"}]'
    table = f"cli_{os.getpid()}"
    assert run("call", "ddl.add_table", f"table={table}", f"columns={columns}", **server).returncode == 0
    (tmp_path / "rows.csv").write_text("id,note\n5,five\n6,\n")
    for stdin, rows in [
        ('{"id": 1, "note": "one"}\n{"id": 2}\n', "rows=-"),
        ('[{"id": 3}]', "rows=-"),
        ("id,note\n4,four\n", "rows=-"),
        ("", f"rows=@{tmp_path / 'rows.csv'}"),
        ("", 'rows=[{"id": 7}]'),
    ]:
        done = run("call", "db.bulk_insert", f"table={table}", rows, stdin=stdin, **server)
        assert done.returncode == 0, done.stderr
    found = json.loads(run("call", "db.query", f"table={table}", "sort_by=id", **server).stdout)["rows"]
    assert [(row["id"], row["note"]) for row in found] == [
        *((1, "one"), (2, None), (3, None), (4, "four"), (5, "five"), (6, None), (7, None))
    ]
    forced = run(
        "call", "--format", "csv", "db.bulk_insert", f"table={table}", "rows=-", stdin="[\n1\n", **server
    )
    assert forced.returncode == 1
    assert "[" in forced.stderr, "it is a column's name then"


@pytest.mark.parametrize(
    ("args", "stdin", "said"),
    [
        (("db.query", "table=t", 'filters={"a": '), "", "filters is broken JSON"),
        (("db.bulk_insert", "table=t", "rows=-"), '{"a": 1}\n{"a"', "line 2 is broken JSON"),
        (("db.bulk_insert", "table=t", "rows=@/nowhere"), "", "No such file"),
    ],
)
def test_what_is_broken_is_said_before_anything_is_sent(args: tuple[str, ...], stdin: str, said: str):
    done = run(
        "call", *args, stdin=stdin, DOMINUS_URL="http://127.0.0.1:1", DOMINUS_TOKEN=TOKEN, COLUMNS="300"
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert said in done.stderr


# --- .env


def test_a_named_env_file_is_read_by_every_command(server: dict[str, str], tmp_path: Path):
    (tmp_path / ".env").write_text(
        "".join(f"{name}={value}\n" for name, value in server.items()) + "DOMINUS_HOME=elsewhere\n"
    )
    done = run("call", "health.ping", cwd=tmp_path, DOMINUS_ENV_FILE=".env")
    assert done.returncode == 0, done.stderr
    assert "DOMINUS_URL is not set" in run("call", "health.ping", cwd=tmp_path).stderr
    examined = run("doctor", cwd=tmp_path, DOMINUS_ENV_FILE=".env")
    assert str(tmp_path / "elsewhere") in examined.stdout
    missing = run("doctor", cwd=tmp_path, DOMINUS_ENV_FILE="nowhere")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "DOMINUS_ENV_FILE names" in missing.stderr


# --- doctor


def test_doctor_prints_json_for_programs(server: dict[str, str], tmp_path: Path):
    done = run("doctor", "--json", DOMINUS_HOME=str(tmp_path / "home"), **server)
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert found["wrong_count"] == 0
    verdicts = {finding["subject"]: finding["verdict"] for finding in found["findings"]}
    assert verdicts["postgres"] == verdicts["token"] == "ok"
    assert verdicts["home"] == "note"
    assert server["DOMINUS_TOKEN"] not in done.stdout


def test_doctor_s_json_has_what_is_wrong_and_what_to_do(tmp_path: Path):
    done = run("doctor", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert (done.returncode, found["wrong_count"]) == (1, 1)
    (wrong,) = [finding for finding in found["findings"] if finding["verdict"] == "wrong"]
    assert wrong["subject"] == "DOMINUS_URL"
    assert "export" in wrong["hint"]


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def page() -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        yield other
        other.shutdown()
        thread.join()


def test_doctor_says_that_an_http_port_does_not_speak_tls(page: http.server.ThreadingHTTPServer):
    url = f"https://127.0.0.1:{page.server_port}"
    done = run("doctor", DOMINUS_URL=url, DOMINUS_TOKEN=TOKEN)
    assert done.returncode == 1
    assert f"{url} does not speak TLS there" in done.stdout
    assert f"use http:// : export DOMINUS_URL=http://127.0.0.1:{page.server_port}" in done.stdout


@pytest.fixture
def tls_page(tmp_path: Path, page: http.server.ThreadingHTTPServer) -> http.server.ThreadingHTTPServer:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    page.socket = context.wrap_socket(page.socket, server_side=True, do_handshake_on_connect=False)
    page.handle_error = lambda *_: None
    return page


def test_doctor_says_that_an_https_port_wants_https(tls_page: http.server.ThreadingHTTPServer):
    done = run("doctor", DOMINUS_URL=f"http://127.0.0.1:{tls_page.server_port}", DOMINUS_TOKEN=TOKEN)
    assert done.returncode == 1
    assert f"export DOMINUS_URL=https://127.0.0.1:{tls_page.server_port}" in done.stdout


def test_doctor_says_that_a_certificate_is_not_trusted(tls_page: http.server.ThreadingHTTPServer):
    done = run("doctor", DOMINUS_URL=f"https://localhost:{tls_page.server_port}", DOMINUS_TOKEN=TOKEN)
    assert done.returncode == 1
    assert "certificate that is not trusted: self" in done.stdout
    assert "SSL_CERT_FILE" in done.stdout


def at_a_terminal(*args: str, cwd: Path, **env: str) -> str:
    """Return what a command writes to a terminal."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_", "NO_"))
    }
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *args],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        cwd=cwd,
        env={**kept, "TERM": "xterm", **env},
    )
    os.close(theirs)
    said = bytearray()
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:
            # Linux says so at the end of a terminal.
            break
        if not chunk:
            break
        said += chunk
    os.close(ours)
    process.wait(20)
    return said.decode()


@pytest.mark.parametrize("args", [("doctor",), ("call", "health.ping"), ("call", "redis.gett")])
def test_colours_are_for_terminals_and_no_color_ends_them(tmp_path: Path, args: tuple[str, ...]):
    assert "\x1b[" in at_a_terminal(*args, cwd=tmp_path)
    assert "\x1b[" not in at_a_terminal(*args, cwd=tmp_path, NO_COLOR="1")


# --- python -m, completion


def test_the_package_is_a_command():
    assert re.match(r"dominus \d", run("--version").stdout)


@pytest.fixture
def program() -> str:
    path = Path(sys.executable).with_name("dominus")
    if not path.exists():
        pytest.skip("the package is not installed here")
    return str(path)


def test_the_shell_completes_commands_and_operations(program: str):
    def completed(words: str) -> list[str]:
        done = subprocess.run(
            [program],
            env={
                **os.environ,
                "_DOMINUS_COMPLETE": "complete_bash",
                "COMP_WORDS": f"dominus {words}",
                "COMP_CWORD": str(len(words.split(" "))),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert {"call", "dev", "demo", "doctor", "serve"} <= set(completed(""))
    assert completed("do") == ["doctor"]
    assert {"redis.set", "redis.setnx"} <= set(completed("call redis.set"))
    assert all(name.startswith("redis.set") for name in completed("call redis.set"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_each_shell_is_shown(program: str, shell: str):
    done = subprocess.run(
        [program, "--show-completion", shell],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "_DOMINUS_COMPLETE" in done.stdout
