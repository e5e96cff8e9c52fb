"""What pyproject.toml names is there: hatch leaves out in silence what it does not find."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_licence_and_every_part_of_the_source_distribution_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    named = [*project["project"]["license-files"], *(name.lstrip("/") for name in included)]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_vendored_file_comes_with_its_licence() -> None:
    vendored = {path.parent for path in (ROOT / "dominus").rglob("*.js") if path.parent.name != "static"}
    assert vendored
    licences = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "license-files"
    ]
    assert [
        folder for folder in vendored if str((folder / "LICENSE").relative_to(ROOT)) not in licences
    ] == []
