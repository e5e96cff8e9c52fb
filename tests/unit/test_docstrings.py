"""Every public callable says what its parameters mean, and shows a call."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from test_llm_guide import guide

# Called by the lock that made the lease, not by its holder.
INTERNAL = {"lease.lose", "lease.renewed"}
CALLABLES = {name: target for name, target in guide.client_callables().items() if name not in INTERNAL}
_EXAMPLE = re.compile(r"^Example:\n {4}```(?:python|py)\n(.*?)\n {4}```", re.MULTILINE | re.DOTALL)


def documented(target: Callable[..., Any]) -> dict[str, str]:
    """Return the entries of a docstring's `Args:`, in their order."""
    text = inspect.getdoc(target) or ""
    section = re.search(r"^Args:\n((?: {4}.*\n?|\n(?= {4}))*)", text, re.MULTILINE)
    entries = re.findall(r"^ {4}\*{0,2}(\w+): (.+)$", section.group(1), re.MULTILINE) if section else []
    return dict(entries)


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_every_parameter_is_explained_in_the_order_of_the_signature(name: str) -> None:
    wanted = [each for each in inspect.signature(CALLABLES[name]).parameters if each != "self"]
    found = documented(CALLABLES[name])
    assert list(found) == wanted


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_every_public_callable_shows_a_call(name: str) -> None:
    text = inspect.getdoc(CALLABLES[name]) or ""
    example = _EXAMPLE.search(text)
    assert example, f"{name} has no Example section with a ```python block"
    method = name.rpartition(".")[2]
    # A client, a call by name and a factory are called as they are; the others by their own names.
    assert name in {"dominus", "Dominus"} or f"{method}(" in example.group(1)


def test_a_parameter_without_an_explanation_would_be_noticed() -> None:
    def call(first: int, second: int) -> None:
        """Do it.

        Args:
            first: a number, 1 to 9;
                more of it.
        """

    assert list(documented(call)) == ["first"]


def test_seconds_and_ranges_are_said_where_they_count() -> None:
    for name, target in CALLABLES.items():
        explained = documented(target)
        for parameter in {"timeout", "ttl", "expires_in", "wait"} & explained.keys():
            assert "second" in explained[parameter], f"{name}: {parameter}"
        for parameter in {"limit", "page_size", "ttl", "expires_in"} & explained.keys():
            assert re.search(r"\d to [\d,]+|from now", explained[parameter]), f"{name}: {parameter}"
