"""What a killed test run leaves is removed by the next one, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dominus.orchestrator.engines.postgres.process import postmaster_of
from dominus.testing import OrchestratorTemplate, local
from dominus.testing.leftovers import PREFIX, remove_leftovers

RUN = """
import sys, tempfile
from pathlib import Path
from dominus.testing import OrchestratorTemplate, local
local._fast_folder = lambda: Path(sys.argv[1])
with OrchestratorTemplate() as template:
    print(template._home, flush=True)
    sys.stdin.read()
"""


@contextmanager
def run_in(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A test run in a process of its own, and its home."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(local, "_fast_folder", lambda: tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def homes(folder: Path) -> set[Path]:
    return set(folder.glob(f"{PREFIX}*"))


def test_the_home_of_a_killed_run_is_removed_by_the_next(folder: Path):
    with run_in(folder) as (process, home):
        assert home in homes(folder)
        process.kill()
        process.wait()
    with OrchestratorTemplate() as template:
        assert homes(folder) == {template._home}
        assert postmaster_of(home / "postgres" / "data") is None
    assert homes(folder) == set()


def test_the_home_of_a_run_that_goes_on_is_not_touched(folder: Path):
    with run_in(folder) as (process, home):
        before = sorted(path.name for path in home.iterdir())
        with OrchestratorTemplate() as template:
            assert homes(folder) == {home, template._home}
        assert sorted(path.name for path in home.iterdir()) == before
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0, "it ends in order"
    assert homes(folder) == set()


def test_a_home_that_is_being_made_is_not_touched(tmp_path: Path):
    begun, created = tmp_path / f"{PREFIX}begun", tmp_path / f"{PREFIX}created"
    for home in (begun, created):
        home.mkdir(mode=0o700)
    (created / "lock").touch()
    remove_leftovers(tmp_path)
    assert homes(tmp_path) == {begun, created}


def test_neither_a_link_nor_another_user_s_folder_is_followed(tmp_path: Path):
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o700)
    (precious / "lock").write_text('{"pid": 1}')
    (tmp_path / f"{PREFIX}link").symlink_to(precious)
    expected = {precious}
    if os.geteuid() == 0:
        other = tmp_path / f"{PREFIX}other"
        other.mkdir(mode=0o700)
        (other / "lock").write_text('{"pid": 1}')
        os.chown(other, 12345, 12345)
        expected.add(other)
    remove_leftovers(tmp_path)
    assert all((folder / "lock").exists() for folder in expected)


def test_the_usual_places_are_looked_into(monkeypatch: pytest.MonkeyPatch):
    looked: list[Path] = []
    monkeypatch.setattr(local, "remove_leftovers", looked.append)
    with OrchestratorTemplate() as template:
        assert template._home is not None
        assert template._home.parent in looked
        assert Path(tempfile.gettempdir()) in looked
