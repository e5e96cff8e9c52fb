"""The command line, as its users meet it: real processes, signals, files and exit codes."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import http.server
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres
from dominus.orchestrator.engines.postgres.process import postmaster_of

COMMAND = [sys.executable, "-m", "dominus.cli"]
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "quickstart.py"
REDIS_PASSWORD = "correct-horse-battery"
ROOT_TOKEN = "root-token-of-the-tests-0123456789-0123456789-abc"


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))}
    return {**kept, "DOMINUS_IS_DURABLE": "false", "PYTHONWARNINGS": "error", **more}


def run(*args: str, stdin: str = "", cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return execute([*COMMAND, *args], input=stdin, env=environment(**env), cwd=cwd)


def execute(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30, **options)


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the deadline passed"
        threading.Event().wait(0.01)


@dataclasses.dataclass
class Running:
    """A `dominus dev` or `serve` of this test."""

    process: subprocess.Popen[str]
    home: Path
    url: str
    token: str
    errors: Path
    greeting: str = ""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def env(self) -> dict[str, str]:
        return {"DOMINUS_URL": self.url, "DOMINUS_TOKEN": self.token}

    def call(self, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return run("call", *args, stdin=stdin, **self.env)

    def value(self, *args: str, stdin: str = "") -> Any:
        done = self.call(*args, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


def spawn(errors: Path, *args: str, **env: str) -> subprocess.Popen[str]:
    with errors.open("w") as stderr:
        return subprocess.Popen(
            [*COMMAND, *args], stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment(**env)
        )


@contextlib.contextmanager
def dev(home: Path, *args: str, **env: str) -> Iterator[Running]:
    errors = home.with_suffix(".stderr")
    process = spawn(
        errors, "dev", "--home", str(home), *([] if "--port" in args else ["--port", "0"]), *args, **env
    )
    with process:
        try:
            lines: list[str] = []
            assert process.stdout is not None
            while not (lines and lines[-1].startswith("Its data")):
                lines.append(process.stdout.readline())
                assert lines[-1], errors.read_text()
            greeting = "".join(lines)
            url = re.search(r"DOMINUS_URL=(\S+)", greeting)
            assert url is not None
            token = env.get("DOMINUS_ROOT_TOKEN") or (home / "token").read_text().strip()
            yield Running(process, home, url[1], token, errors, greeting)
        finally:
            process.kill()


def is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def finish_in_flight(server: Running, end: Callable[[], None]) -> str:
    """Begin a mint, end the server, and only when it takes nobody new send the rest of the request."""
    body = base64.b64encode(json.dumps({"method": "auth.self", "params": {}}).encode())
    head = (
        f"POST /api/warden/mint HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as connection:
        connection.sendall(head.encode())
        # The server asks for the body when the handler wants to read it: from here on the request is in flight.
        assert b"100 Continue" in connection.recv(200)
        end()
        until(lambda: is_closed(server.port))
        connection.sendall(body)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer.decode()


def has_postgres(home: Path) -> bool:
    if postmaster_of(home / "postgres" / "data") is not None:
        return True
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = entry.read_bytes()
            if b"postgres" in command and os.fsencode(home / "postgres") in command:
                return True
    return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with dev(tmp_path_factory.mktemp("dev") / "home") as running:
        yield running
        assert running.end() == 0


@pytest.fixture(scope="module")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a cluster, so that a start takes a moment only."""
    home = tmp_path_factory.mktemp("made") / "home"
    with EmbeddedPostgres(home, is_durable=False):
        pass
    return home


# What dominus dev says and leaves.


def test_dev_shows_exports_that_work_and_not_the_token(server: Running) -> None:
    assert f"export DOMINUS_TOKEN=$(cat {server.home}/token)" in server.greeting
    assert str(server.home / "dsn") in server.greeting
    assert server.token not in server.greeting
    exports = "\n".join(line for line in server.greeting.splitlines() if line.startswith("  export"))
    script = f"{exports}\n{sys.executable} -m dominus.cli call health.ping"
    done = execute(["sh", "-ec", script], env=environment())
    assert (done.returncode, json.loads(done.stdout)) == (0, {"status": "ok"})


def test_dev_answers_health_and_shows_metrics_on_loopback(server: Running) -> None:
    with urllib.request.urlopen(f"{server.url}/api/health", timeout=10) as response:
        assert json.load(response)["status"] == "ok"
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as response:
        assert b"dominus_requests_total" in response.read()


def test_what_dev_writes_is_for_its_user_only(server: Running) -> None:
    modes = {
        name: stat.S_IMODE((server.home / name).stat().st_mode)
        for name in ("token", "dsn", "master-key", ".")
    }
    assert modes == {"token": 0o600, "dsn": 0o600, "master-key": 0o600, ".": 0o700}


def test_dev_stays_under_120_megabytes(server: Running) -> None:
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc here")
    kilobytes = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
    assert kilobytes is not None
    assert int(kilobytes[1]) < 120 * 1024


def test_the_quick_start_of_the_docs_runs(server: Running) -> None:
    done = execute([sys.executable, str(EXAMPLE)], env=environment(**server.env))
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "correct horse",
        "1 open",
        "1",
        "{'text': 'hello'}",
        "only one worker does this",
    ]


@pytest.mark.parametrize("port", ["its own", "free"])
def test_a_second_start_on_a_home_says_who_holds_it(server: Running, port: str) -> None:
    number = server.port if port == "its own" else 0
    done = run("dev", "--home", str(server.home), "--port", str(number))
    assert done.returncode == 1
    assert f"in use by dominus dev on {server.url} (pid {server.process.pid})" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_named_before_anything_starts(server: Running, tmp_path: Path) -> None:
    done = run("dev", "--home", str(tmp_path / "home"), "--port", str(server.port))
    assert done.returncode == 1
    assert f"error: port {server.port} on 127.0.0.1 is in use" in done.stderr
    assert "--port" in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_host_of_another_machine_is_refused(tmp_path: Path) -> None:
    done = run("dev", "--home", str(tmp_path / "home"), "--host", "192.0.2.1")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "192.0.2.1" in done.stderr


def test_a_wrong_setting_is_named_without_its_value(tmp_path: Path) -> None:
    done = run("dev", "--home", str(tmp_path / "home"), "--port", "0", DOMINUS_POOL_SIZE="plenty")
    assert done.returncode == 1
    assert "DOMINUS_POOL_SIZE" in done.stderr
    assert "plenty" not in done.stderr


# How it ends.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_dev_with_all_it_started_and_what_is_in_flight_is_finished(
    made_home: Path, number: signal.Signals
) -> None:
    with dev(made_home, "--log-level", "info", "--host", "0.0.0.0") as running:
        assert has_postgres(made_home)
        answer = finish_in_flight(running, lambda: running.process.send_signal(number))
        assert answer.startswith("HTTP/1.1 200")
        assert running.process.wait(20) == 0
        said = running.errors.read_text()
    assert not has_postgres(made_home)
    assert "Traceback" not in said
    assert "warning: --host 0.0.0.0 lets other machines in" in said
    assert re.search(r"200 +[\d.]+ ms  POST /api/warden/mint  auth\.self", said)


def test_a_signal_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with spawn(tmp_path / "stderr", "dev", "--home", str(home), "--port", "0") as process:
        until(lambda: any(home.glob("postgres.new-*")))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not has_postgres(home)
    assert "Traceback" not in (tmp_path / "stderr").read_text()


def test_after_a_kill_no_postgres_is_left_and_rows_are_back(made_home: Path) -> None:
    with dev(made_home) as running:
        column = '[{"name": "id", "type": "INT", "primary_key": true}]'
        running.value("ddl.add_table", "table=kept", f"columns={column}")
        running.value("db.insert", "table=kept", 'data={"id": 7}')
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not has_postgres(made_home))
    with dev(made_home) as running:
        assert running.value("db.query", "table=kept")["rows"] == [{"id": 7}]
        assert running.end() == 0


# dominus serve.


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of `serve`: a second PostgreSQL by its DSN, and a real redis-server."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    folder = tmp_path_factory.mktemp("remote")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    options += ["--requirepass", REDIS_PASSWORD]
    with (
        EmbeddedPostgres(folder / "home", is_durable=False) as postgres,
        subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL) as redis,
    ):
        until(lambda: not is_closed(port))
        yield {
            "DOMINUS_DATABASE_URL": postgres.start(),
            "DOMINUS_REDIS_URL": f"redis://:{REDIS_PASSWORD}@127.0.0.1:{port}/0",
            "DOMINUS_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "DOMINUS_ROOT_TOKEN": ROOT_TOKEN,
        }
        redis.terminate()


@contextlib.contextmanager
def serve(folder: Path, *args: str, scheme: str = "http", **env: str) -> Iterator[Running]:
    errors = folder / "serve.stderr"
    with spawn(errors, "serve", "--host", "127.0.0.1", "--port", "0", *args, **env) as process:
        try:
            until(lambda: "serving on" in errors.read_text() or process.poll() is not None)
            url = re.search(rf"serving on ({scheme}://[\d.:]+)", errors.read_text())
            assert url is not None, errors.read_text()
            yield Running(process, folder, url[1], env["DOMINUS_ROOT_TOKEN"], errors)
        finally:
            process.terminate()
            process.wait(20)


def test_serve_refuses_without_its_settings_and_lists_them_all() -> None:
    done = run("serve", "--port", "0")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    names = ("DOMINUS_DATABASE_URL", "DOMINUS_REDIS_URL", "DOMINUS_MASTER_KEY", "DOMINUS_ROOT_TOKEN")
    assert [name for name in names if name not in done.stderr] == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_says_which_engine_is_away(remote: dict[str, str], workers: str) -> None:
    away = {**remote, "DOMINUS_DATABASE_URL": "postgresql://u:pa55word@127.0.0.1:1/d"}
    done = run("serve", "--host", "127.0.0.1", "--port", "0", "--workers", workers, **away)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert done.stderr.splitlines()[0].startswith("error: PostgreSQL at 127.0.0.1:1")
    assert "pa55word" not in done.stderr


def test_serve_with_two_workers_works_and_finishes_what_is_in_flight(
    remote: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    with serve(tmp_path, "--workers", "2", TMPDIR=str(tmp_path / "tmp"), **remote) as running:
        assert running.value("secrets.upsert", "key=K", "value=v")["version"] == 1
        assert running.value("redis.set", "key=k", "value=[1, 2]") is True
        assert running.value("redis.get", "key=k") == [1, 2]
        request = urllib.request.Request(
            f"{running.url}/metrics", headers={"Authorization": f"Bearer {ROOT_TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            assert b'operation="redis.set"' in response.read()
        folders = list((tmp_path / "tmp").glob("dominus-metrics-*"))
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700]
        answer = finish_in_flight(running, running.process.terminate)
        assert answer.startswith("HTTP/1.1 200")
        assert running.process.wait(20) == 0
        lines = [json.loads(line) for line in running.errors.read_text().splitlines()]
    assert list((tmp_path / "tmp").iterdir()) == []
    requests = [line for line in lines if line["logger"] == "dominus.access"]
    assert {"redis.set", "secrets.upsert", "auth.self"} <= {line["operation"] for line in requests}
    assert all({"ts", "level", "status", "ms", "request_id"} <= line.keys() for line in requests)


def test_workers_do_not_outlive_a_killed_supervisor(remote: dict[str, str], tmp_path: Path) -> None:
    with serve(tmp_path, "--workers", "2", TMPDIR=str(tmp_path), **remote) as running:
        running.value("health.ping")
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
        until(lambda: is_closed(running.port))


def test_serve_speaks_tls(remote: dict[str, str], tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    options = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    with serve(tmp_path, *options, scheme="https", **remote) as running:
        context = ssl.create_default_context(cafile=str(certificate))
        with urllib.request.urlopen(f"{running.url}/api/health", timeout=10, context=context) as response:
            assert json.load(response)["status"] == "ok"
        assert running.end() == 0


def test_a_certificate_that_does_not_fit_is_said_at_once(remote: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "broken.pem").write_text("no certificate")
    done = run("serve", "--port", "0", "--ssl-certfile", str(tmp_path / "broken.pem"), **remote)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "broken.pem" in done.stderr


def make_certificate(folder: Path) -> tuple[Path, Path]:
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dominus.test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "cert.pem", folder / "key.pem"


# dominus demo.


def test_demo_shows_each_step_and_leaves_nothing(tmp_path: Path) -> None:
    # What the environment points at is not the demo's to touch.
    done = run(
        "demo", cwd=tmp_path, TMPDIR=str(tmp_path), DOMINUS_DATABASE_URL="postgresql://u@127.0.0.1:1/d"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for said in (
        "upsert(",
        "add_table(",
        "bulk_insert(",
        "db.query(",
        "redis.set(",
        "incr(",
        "setnx(",
        "lock(",
        "check(",
    ):
        assert said in done.stdout
    assert "'inserted_count': 1000" in done.stdout
    assert re.search(r'setnx\("job:report", "worker-2".*\n    False\n', done.stdout)
    assert done.stdout.count(" ms\n") == 13
    assert "dominus dev" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []


def test_demo_runs_again_in_a_home_that_is_kept(made_home: Path) -> None:
    for _ in range(2):
        done = run("demo", "--home", str(made_home))
        assert done.returncode == 0, done.stderr
    assert str(made_home) in done.stdout
    assert not has_postgres(made_home)


def test_demo_in_a_home_that_is_in_use_says_so(server: Running) -> None:
    done = run("demo", "--home", str(server.home))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert f"in use by dominus dev on {server.url}" in done.stderr


# dominus call.


def test_call_takes_json_text_files_and_stdin(server: Running, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("12345\n")
    (tmp_path / "entry.json").write_text('{"a": [1, null]}')
    server.value("upsert", "key=FROM_FILE", f"value=@{tmp_path / 'password'}")
    server.value("upsert", "key=FROM_STDIN", "value=-", stdin="1e5")
    # A file is text unless it is a document: a password of digits must stay one.
    assert server.value("get", "key=FROM_FILE") == "12345"
    assert server.value("get", "key=FROM_STDIN") == "1e5"
    server.value("redis.set", "key=42", f"value=@{tmp_path / 'entry.json'}", "ttl=60")
    assert server.value("redis.get", "key=42") == {"a": [1, None]}
    server.value("redis.set", "key=text", "value=just words")
    assert server.value("redis.get", "key=text") == "just words"


def test_call_lists_operations_with_what_they_do(server: Running) -> None:
    done = run("call", "--list")
    assert done.returncode == 0
    assert re.search(r"^redis\.setnx +\S+", done.stdout, re.MULTILINE)
    assert re.search(r"^secrets\.get +Read a secret", done.stdout, re.MULTILINE)
    assert [line for line in done.stdout.splitlines() if len(line.split()) < 2] == []


def test_call_help_shows_what_an_operation_takes_and_a_command_that_works(server: Running) -> None:
    done = run("call", "redis.set", "--help")
    assert done.returncode == 0, done.stderr
    assert "ttl" in done.stdout
    command = done.stdout.rpartition("Example:")[2].strip()
    typed, _, arguments = command.partition(" call ")
    assert execute([*shlex.split(typed), "--version"]).returncode == 0, "it can be typed as it stands"
    assert arguments.startswith("redis.set key=user:42 ")
    assert json.loads(server.call(*shlex.split(arguments)).stdout) is True

    general = run("call", "--help").stdout
    assert "KEY=VALUE" in general
    assert "--list" in general
    unknown = run("call", "redis.sett", "--help")
    assert unknown.returncode == 1
    assert "redis.set" in unknown.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("redis.gett", "key=k"), "hint: did you mean 'redis.get'"),
        (("redis.get",), "hint: it takes key"),
        (("redis.set", "key=k", "value=1", "ttl=5"), "ttl"),
        (("get", "key=MISSING"), "error: "),
        (("db.query", "table=users; drop table users"), "users; drop table users"),
    ],
)
def test_a_call_that_fails_says_why_on_stderr(server: Running, args: tuple[str, ...], said: str) -> None:
    done = server.call(*args)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)
    assert said in done.stderr


@pytest.mark.parametrize(
    "args", [(), ("get", "KEY"), ("get", "key=1", "key=2"), ("get", "key=@/nowhere"), ("get", "=1")]
)
def test_a_malformed_call_exits_with_2(args: tuple[str, ...]) -> None:
    done = run("call", *args)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_a_call_without_settings_says_what_to_set() -> None:
    done = run("call", "health.ping")
    assert done.returncode == 1
    assert "DOMINUS_URL is not set" in done.stderr
    assert "dominus dev" in done.stderr


def test_a_call_to_nobody_says_so(tmp_path: Path) -> None:
    done = run(
        *("call", "health.ping"),
        DOMINUS_URL="http://127.0.0.1:1",
        DOMINUS_TOKEN=ROOT_TOKEN,
        DOMINUS_COLD_START_TIMEOUT="0.2",
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "not reached" in done.stderr
    assert ROOT_TOKEN not in done.stderr


# dominus doctor.


def test_doctor_finds_a_healthy_set_up(server: Running) -> None:
    done = run("doctor", DOMINUS_HOME=str(server.home), **server.env)
    assert done.returncode == 0, done.stdout
    assert "all is well" in done.stdout
    for subject in ("postgres", "redis", "token", "clock", "orchestrator"):
        assert re.search(rf"^ok +{subject} ", done.stdout, re.MULTILINE)
    assert f"dominus dev on {server.url}" in done.stdout
    assert server.token not in done.stdout


def test_doctor_without_anything_set_says_what_to_do(tmp_path: Path) -> None:
    done = run("doctor", cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(r"run `.*dominus dev`", done.stdout)


def test_doctor_tells_where_a_server_runs_that_the_environment_does_not_name(server: Running) -> None:
    done = run("doctor", DOMINUS_HOME=str(server.home))
    assert done.returncode == 1
    assert f"-> dominus dev on {server.url}" in done.stdout


def test_doctor_says_that_a_token_is_refused(server: Running) -> None:
    done = run("doctor", DOMINUS_URL=server.url, DOMINUS_TOKEN=ROOT_TOKEN)
    assert done.returncode == 1
    assert re.search(r"^WRONG +token ", done.stdout, re.MULTILINE)
    assert ROOT_TOKEN not in done.stdout


def test_doctor_sees_an_open_home(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o755)
    done = run("doctor", DOMINUS_HOME=str(tmp_path / "home"))
    assert done.returncode == 1
    assert f"chmod 700 {tmp_path / 'home'}" in done.stdout


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<h1>a page</h1>")

    def log_message(self, format: str, *args: Any) -> None:
        return


def test_doctor_says_that_a_server_is_not_dominus() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        done = run("doctor", DOMINUS_URL=f"http://127.0.0.1:{other.server_port}", DOMINUS_TOKEN=ROOT_TOKEN)
        other.shutdown()
    assert done.returncode == 1
    assert "no Dominus server: status 200, text/html" in done.stdout


def test_doctor_judges_engines_and_clock() -> None:
    import httpx

    from dominus.cli.doctor import Verdict, judge_answer

    body = {"status": "degraded", "engines": {"postgres": {"status": "failed", "error": "timeout"}}}
    answer = httpx.Response(200, json=body, headers={"date": "Thu, 01 Jan 2026 00:00:00 GMT"})
    at_that_time = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()
    wrong = [(f.subject, f.verdict is Verdict.WRONG) for f in judge_answer(answer, 1.0, at_that_time + 3600)]
    assert wrong == [("server", False), ("postgres", True), ("clock", True)]
    assert judge_answer(answer, 1.0, at_that_time + 1)[-1].verdict is Verdict.OK
    full = {"status": "degraded", "latency_ms": 0.4, "error": "disk_full"}
    answer = httpx.Response(200, json={"status": "degraded", "engines": {"postgres": full}})
    finding = judge_answer(answer, 1.0, at_that_time)[1]
    assert (finding.verdict, finding.text) == (Verdict.WRONG, "answers, and takes no writes (disk_full)")


def test_the_version_is_shown() -> None:
    from dominus import __version__

    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"dominus {__version__}\n")


def test_importing_the_entry_point_loads_no_command() -> None:
    code = "import sys, dominus.cli; print([n for n in ('typer', 'rich', 'uvicorn', 'httpx', 'asyncpg') if n in sys.modules])"
    done = execute([sys.executable, "-c", code])
    assert done.stdout == "[]\n", done.stderr
