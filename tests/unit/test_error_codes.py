"""docs/errors.md lists every code that a caller can meet."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _codes(module: Path) -> Iterator[str]:
    """Yield what a module gives as `code=...`, as the default code of an error, or in the table of SQLSTATEs."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        values: list[ast.expr | None] = []
        if isinstance(node, ast.Call):
            values = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if isinstance(node.func, ast.Name) and node.func.id == "_Rule":
                values += node.args[1:2]
        elif isinstance(node, ast.Assign) and any(_is_default(target) for target in node.targets):
            values = [node.value]
        yield from (
            value.value
            for value in values
            if isinstance(value, ast.Constant) and isinstance(value.value, str)
        )


def _is_default(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "default_code"


def codes() -> set[str]:
    """Return every code in the package."""
    return {code for module in (ROOT / "dominus").rglob("*.py") for code in _codes(module)}


def test_the_codes_are_found() -> None:
    assert {"unique_violation", "token_expired", "lock_held"} <= codes()


@pytest.mark.parametrize("code", sorted(codes()))
def test_a_code_is_explained(code: str) -> None:
    assert f"`{code}`" in (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
