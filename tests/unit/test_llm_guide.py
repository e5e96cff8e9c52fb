"""LLM-GUIDE.md says what the code says: its reference is written from the code, and what is written by hand is complete."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

import dominus as package
from dominus import Dominus, sessions
from dominus.contract import operations
from dominus.names import METHOD_OF, callable_names
from dominus.orchestrator.settings import ServerSettings
from dominus.sessions import Sessions
from dominus.settings import Settings

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import write_guide as guide  # noqa: E402 - a program of the documents, not a module of the package


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_reference_is_what_the_code_says() -> None:
    text = _text("LLM-GUIDE.md")
    assert guide.page_with(text, guide.reference()) == text, "run: python docs/write_guide.py"


@pytest.mark.parametrize("name", sorted(guide.client_callables()))
def test_the_reference_shows_each_public_callable(name: str) -> None:
    assert f"`{guide.signature_text(name, guide.client_callables()[name])}`" in guide.reference()


def test_the_reference_shows_the_fields_of_each_result() -> None:
    shown = guide.reference()
    shapes = guide.shapes_of(guide.client_callables().values())
    assert {
        "QueryRows",
        "Stats",
        "ColumnSpec",
        "SecretInfo",
        "KeyPage",
        "Health",
        "Resolved",
    } <= shapes.keys()
    assert [name for name, shape in shapes.items() if f"`{guide.shape_text(name, shape)}`" not in shown] == []


def test_a_changed_signature_would_be_noticed() -> None:
    async def get(self: Any, key: str, category: str = "x", *, default: Any = None) -> list[Any]:
        raise AssertionError

    text = guide.signature_text("dominus.redis.get", get)
    assert text == 'await dominus.redis.get(key, category="x", *, default=None) -> list[Any]'
    assert text not in _text("LLM-GUIDE.md")


def test_every_namespace_of_the_client_is_walked() -> None:
    lazy = {name for name, member in vars(Dominus).items() if type(member).__name__ == "cached_property"}
    assert lazy == set(guide.NAMESPACES)


def test_every_factory_of_sessions_is_walked() -> None:
    lazy = {name for name, member in vars(Sessions).items() if type(member).__name__ == "cached_property"}
    assert lazy == set(guide.FACTORIES)
    plain = {name for name in sessions.__all__ if name.islower()}
    assert plain == set(guide.FACTORIES)
    walked = set(guide.client_callables())
    assert {"dominus.sessions.token", "dominus.sessions.postgres.pool", "async_session.close"} <= walked


def test_each_operation_has_a_method_that_is_callable_by_name() -> None:
    client = Dominus()
    assert set(operations()) <= set(callable_names())
    for name in operations():
        method: Any = client
        for part in METHOD_OF.get(name, name).split("."):
            method = getattr(method, part)
        if inspect.signature(method).return_annotation == "Logged":
            continue  # a line is taken at the call: there is nothing to wait for
        is_lines = operations()[name].is_lines
        assert is_lines or inspect.iscoroutinefunction(method), name
        assert "timeout" in inspect.signature(method).parameters, f"{name} takes no timeout"


def test_the_guide_names_every_operation_that_is_callable_by_name() -> None:
    guide = _text("LLM-GUIDE.md")
    missing = [
        name for name in callable_names() if f"`{name}`" not in guide and f"dominus.{name}(" not in guide
    ]
    assert not missing


@pytest.mark.parametrize("document", ["LLM-GUIDE.md", "docs/errors.md"])
def test_every_error_is_documented(document: str) -> None:
    errors = [name for name in package.__all__ if name.endswith("Error")]
    assert [name for name in errors if name not in _text(document)] == []


def test_the_documents_list_every_setting_of_the_client() -> None:
    named = {"project": "CB_PROJECT_SLUG", "environment": "CB_ENVIRONMENT"}
    wanted = {named.get(name, f"DOMINUS_{name.upper()}") for name in Settings.model_fields}
    assert {name for name in wanted if f"`{name}`" not in _text("docs/settings.md")} == set()


def test_the_documents_list_every_setting_of_the_server() -> None:
    # DOMINUS_IS_DURABLE is for tests of the embedded PostgreSQL alone.
    wanted = {f"DOMINUS_{name.upper()}" for name in ServerSettings.model_fields} - {"DOMINUS_IS_DURABLE"}
    assert {name for name in wanted if f"`{name}`" not in _text("docs/operations.md")} == set()
