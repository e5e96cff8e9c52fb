"""DOMINUS_HOME: closed to others, held by one, its secrets made once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dominus.errors import ConflictError, ValidationError
from dominus.orchestrator.home import hold, open_home, read_or_create_secret, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_closed_to_others_and_its_parents_keep_their_modes(tmp_path: Path) -> None:
    parent = tmp_path / "project"
    parent.mkdir(mode=0o750)
    parent.chmod(0o750)
    home = open_home(parent / ".dominus")
    assert mode(home) == 0o700
    assert mode(parent) == 0o750
    assert home.is_absolute()


def test_a_home_of_ours_that_became_wider_is_closed_again(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    hold(home, "test").release()
    home.chmod(0o755)
    assert mode(open_home(home)) == 0o700


def test_an_empty_open_folder_becomes_a_closed_home(tmp_path: Path) -> None:
    home = tmp_path / "empty"
    home.mkdir()
    home.chmod(0o755)
    assert mode(open_home(home)) == 0o700


def test_an_open_folder_with_other_things_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    project.chmod(0o755)
    (project / "main.py").touch()
    with pytest.raises(ValidationError, match="holds other things"):
        open_home(project)
    assert mode(project) == 0o755


def test_a_file_is_no_home(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ValidationError, match=str(path)):
        open_home(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_home_of_another_user_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 12345, 12345)
    with pytest.raises(ValidationError, match="belongs to user 12345"):
        open_home(home)


def test_a_second_holder_in_this_process_is_told_who_holds_it(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    with hold(home, "embedded") as held:
        held.describe("dominus dev on http://127.0.0.1:8700")
        with pytest.raises(ConflictError) as caught:
            hold(home, "another")
        assert "dominus dev on http://127.0.0.1:8700" in caught.value.message
        assert f"pid {os.getpid()}" in caught.value.message
        assert "DOMINUS_URL" in str(caught.value.hint)
        assert mode(home / "lock") == 0o600
    hold(home, "another").release()


HOLDER = """
import sys
from pathlib import Path
from dominus.orchestrator.home import hold
held = hold(Path(sys.argv[1]), "dominus dev on http://127.0.0.1:8700")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_killed_holder_leaves_a_free_home(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConflictError, match=f"dominus dev on .*pid {holder.pid}"):
            hold(home, "second")
        holder.kill()
        holder.wait()
    hold(home, "second").release()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_home_of_its_parent(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    held = hold(home, "parent")
    wake_read, wake_write = os.pipe()
    ready_read, ready_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(wake_write)
        os.write(ready_write, b"x")
        os.read(wake_read, 1)
        os._exit(0)
    os.close(wake_read)
    os.read(ready_read, 1)
    try:
        held.release()
        hold(home, "next").release()
    finally:
        for descriptor in (wake_write, ready_read, ready_write):
            os.close(descriptor)
        os.waitpid(child, 0)


def test_a_secret_is_made_once_and_only_for_its_user(tmp_path: Path) -> None:
    first = read_or_create_secret(tmp_path, "token", lambda: "made-first")
    second = read_or_create_secret(tmp_path, "token", lambda: "made-second")
    assert (first, second) == ("made-first", "made-first")
    assert mode(tmp_path / "token") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_a_secret_is_closed_from_its_first_moment_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    link = os.link
    monkeypatch.setattr(os, "link", lambda source, target: (seen.append(mode(source)), link(source, target)))
    before = os.umask(0)
    try:
        read_or_create_secret(tmp_path, "token", lambda: "secret")
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_many_that_make_a_secret_at_once_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(
            threads.map(lambda n: read_or_create_secret(tmp_path, "token", lambda: f"from-{n}"), range(32))
        )
    assert len(set(made)) == 1


def test_a_secret_that_others_could_read_is_closed_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_or_create_secret(tmp_path, "token", lambda: "secret")
    (tmp_path / "token").chmod(0o644)
    assert read_or_create_secret(tmp_path, "token", lambda: "other") == "secret"
    assert mode(tmp_path / "token") == 0o600
    assert "readable by others" in caplog.text


def test_an_empty_secret_is_an_error_and_not_a_secret(tmp_path: Path) -> None:
    (tmp_path / "token").touch(mode=0o600)
    with pytest.raises(ValidationError, match="is empty"):
        read_or_create_secret(tmp_path, "token", lambda: "secret")


def test_a_link_is_not_followed_to_a_secret(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("not ours")
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValidationError, match="it is a link"):
        read_or_create_secret(tmp_path, "token", lambda: "secret")


def test_a_private_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "dsn"
    path.write_text("old")
    path.chmod(0o644)
    with path.open() as reader:
        write_private(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new\n"
    assert mode(path) == 0o600


def staged_in(repository: Path) -> list[str]:
    for command in (["git", "init", "-q"], ["git", "add", "."]):
        subprocess.run(
            command, cwd=repository, check=True, env=os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}
        )
    listed = subprocess.run(
        ["git", "diff", "--cached", "--name-only"], cwd=repository, check=True, capture_output=True
    )
    return listed.stdout.decode().splitlines()


def test_nothing_of_a_home_is_added_to_git(tmp_path: Path) -> None:
    home = open_home(tmp_path / ".dominus")
    read_or_create_secret(home, "token", lambda: "secret")
    assert staged_in(tmp_path) == []


def test_a_home_of_an_older_version_is_hidden_from_git_too(tmp_path: Path) -> None:
    home = tmp_path / ".dominus"
    home.mkdir(mode=0o700)
    for name in ("lock", "token", "master-key", "dsn", "postgres.lock", "postgres.log", "postgres.log.1"):
        (home / name).write_text("x")
    for name in ("postgres", "run"):
        (home / name).mkdir()
    open_home(home)
    assert staged_in(tmp_path) == []


def test_a_project_that_is_used_as_a_home_is_not_hidden(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "main.py").touch()
    hold(open_home(tmp_path), "test").release()
    open_home(tmp_path)
    assert not (tmp_path / ".gitignore").exists()


def test_a_gitignore_of_the_user_s_stays(tmp_path: Path) -> None:
    home = open_home(tmp_path / ".dominus")
    (home / ".gitignore").write_text("*\n!README\n")
    open_home(home)
    assert (home / ".gitignore").read_text() == "*\n!README\n"
