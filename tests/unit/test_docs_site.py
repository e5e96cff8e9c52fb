"""The documentation builds as a site without a warning, is complete, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_llm_guide import guide

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_public_method_of_every_namespace_is_in_the_reference(site: Path) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    for owner in (*guide.NAMESPACES.values(), *guide.FACTORIES.values()):
        methods = [name for name in vars(owner) if not name.startswith("_") and callable(vars(owner)[name])]
        for method in methods:
            assert f'id="{owner.__module__}.{owner.__qualname__}.{method}"' in pages, method


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"""<(?:script|img|iframe)[^>]+src=["']?([^"' >]+)""", text)
        loaded += re.findall(r"""<link[^>]+href=["']?([^"' >]+)""", text)
        assert [name for name in loaded if re.match(r"(https?:)?//", name)] == []
