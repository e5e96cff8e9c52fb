"""Templates in the syntax of Postmark (Mustachio): values, sections, lists; no code, no calls, no includes.

    {{name}} {{a.b}} {{.}} {{../name}}     a value, HTML-escaped in HTML
    {{{name}}} {{&name}}                   a value as it is
    {{#name}} ... {{/name}}                when it is there and not empty; names inside are looked up in it
    {{^name}} ... {{/name}}                when it is not
    {{#each name}} ... {{/each}}           for each item of a list
    {{! a comment }}

A name is looked up in the nearest object around it, `../` one scope further out; nothing is looked for elsewhere. A
value that is not there is an error, in a condition it is false.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic_core import to_json

from dominus.errors import ValidationError

__all__ = ["MAX_DEPTH", "MAX_OUTPUT", "MAX_STEPS", "Node", "parse", "render"]

MAX_DEPTH = 32
"""Sections within each other."""
MAX_TAGS = 5_000
"""Of one part of a template."""
MAX_STEPS = 20_000
"""Of one rendering: texts and values written, items begun. A list within a list is soon many."""
MAX_OUTPUT = 2 * 1024 * 1024
"""Characters."""
_CACHED_TEMPLATES = 64

_TAG = re.compile(r"\{\{\{(?P<raw>[^{}]*)\}\}\}|\{\{(?P<tag>[^{}]*)\}\}")
_PATH = re.compile(r"(?:\.\./)*(?:[A-Za-z0-9_$-]+(?:\.[A-Za-z0-9_$-]+)*|\.)")
Path = tuple[int, tuple[str, ...]]
"""How many scopes out, and the names from there; no name is the scope itself."""


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a template: a text, a value, a section or a list."""

    kind: str
    """`text`, `value`, `raw`, `section`, `inverted` or `each`."""
    said: str
    """The text, or the name as the template has it."""
    path: Path = (0, ())
    inner: tuple[Node, ...] = ()


@dataclass(slots=True)
class _Open:
    """A section whose end is still to come."""

    kind: str
    said: str
    closes_with: str
    path: Path
    line: int
    nodes: list[Node]


@lru_cache(maxsize=_CACHED_TEMPLATES)
def parse(text: str) -> tuple[Node, ...]:
    """Return the nodes of a template.

    Raises:
        ValidationError: it is no template; the message says where.
    """
    text = _without_comments(text)
    stack = [_Open("", "", "", (0, ()), 1, [])]
    position, line = 0, 1
    for count, tag in enumerate(_TAG.finditer(text), 1):
        if count > MAX_TAGS:
            raise _invalid(line, f"has more than {MAX_TAGS} tags")
        _add_text(stack[-1].nodes, text[position : tag.start()], line)
        line += text.count("\n", position, tag.start())
        position = tag.end()
        _add_tag(stack, tag, line)
        line += tag[0].count("\n")
    _add_text(stack[-1].nodes, text[position:], line)
    if len(stack) > 1:
        raise _invalid(stack[-1].line, f"{{{{#{stack[-1].said}}}}} is not closed")
    return tuple(stack[0].nodes)


def _without_comments(text: str) -> str:
    """Empty the comments: they may hold anything. Their lines still count."""
    kept, position = list[str](), 0
    while (start := text.find("{{!", position)) >= 0 and (end := text.find("}}", start)) >= 0:
        kept += [text[position:start], "{{!", "\n" * text.count("\n", start, end), "}}"]
        position = end + 2
    return "".join([*kept, text[position:]])


def _add_text(nodes: list[Node], text: str, line: int) -> None:
    # Braces that are left over were meant as a tag; the `}}` that ends two blocks of a style sheet was not.
    if "{{" in text:
        raise _invalid(line + text.count("\n", 0, text.index("{{")), "a tag is not closed with }}")
    if text:
        nodes.append(Node("text", text))


def _add_tag(stack: list[_Open], tag: re.Match[str], line: int) -> None:
    if tag["raw"] is not None:
        stack[-1].nodes.append(Node("raw", tag["raw"].strip(), _path(tag["raw"], line)))
        return
    said: str = tag["tag"].strip()
    sign, name = said[:1], said[1:].strip()
    if sign == "!":
        return
    if sign == "&":
        stack[-1].nodes.append(Node("raw", name, _path(name, line)))
    elif sign in {"#", "^"}:
        is_each = sign == "#" and name.startswith("each ")
        name = name.removeprefix("each ").strip() if is_each else name
        kind = "each" if is_each else "section" if sign == "#" else "inverted"
        stack.append(_Open(kind, name, "each" if is_each else name, _path(name, line), line, []))
        if len(stack) > MAX_DEPTH + 1:
            raise _invalid(line, f"sections are nested more than {MAX_DEPTH} deep")
    elif sign == "/":
        _close(stack, name, line)
    else:
        stack[-1].nodes.append(Node("value", said, _path(said, line)))


def _close(stack: list[_Open], name: str, line: int) -> None:
    opened = stack[-1]
    if len(stack) == 1 or name != opened.closes_with:
        where = f"{{{{/{opened.closes_with}}}}} should come first" if len(stack) > 1 else "nothing is open"
        raise _invalid(line, f"{{{{/{name[:80]}}}}}: {where}")
    stack.pop()
    stack[-1].nodes.append(Node(opened.kind, opened.said, opened.path, tuple(opened.nodes)))


def _path(text: str, line: int) -> Path:
    said = text.strip()
    if not _PATH.fullmatch(said):
        hint = "layouts and partials are not supported" if said[:1] in {">", "@"} else None
        raise _invalid(line, f"{{{{{said[:80]}}}}} is no name", hint)
    outer_count = said.count("../")
    names = said[3 * outer_count :]
    return outer_count, () if names == "." else tuple(names.split("."))


def _invalid(line: int, what: str, hint: str | None = None) -> ValidationError:
    return ValidationError(
        f"line {line} of the template: {what}", code="invalid_template", details={"line": line}, hint=hint
    )


class _Missing:
    pass


_MISSING = _Missing()


class _Rendering:
    """One rendering: the scopes that are open, and what may still be written."""

    def __init__(self, model: Mapping[str, Any], escape: Callable[[str], str]) -> None:
        self._scopes: list[Any] = [model]
        self._escape = escape
        self._steps = MAX_STEPS
        self._room = MAX_OUTPUT
        self._parts: list[str] = []

    def text(self, nodes: Sequence[Node]) -> str:
        self._run(nodes)
        return "".join(self._parts)

    def _run(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self._step()
            if node.kind == "text":
                self._write(node.said)
            elif node.kind in {"value", "raw"}:
                text = _text_of(self._found(node), node.said)
                self._write(text if node.kind == "raw" else self._escape(text))
            else:
                self._section(node)

    def _section(self, node: Node) -> None:
        if node.kind == "each":
            items = self._found(node)
            if not isinstance(items, list):
                if items is None:
                    return
                raise ValidationError(
                    f"model.{node.said}: {{{{#each}}}} needs a list",
                    code="invalid_model",
                    details={"key": node.said},
                )
            for item in items:  # pyright: ignore[reportUnknownVariableType]
                self._step()
                self._within(item, node.inner)
            return
        value = self._look_up(node.path)
        is_there = not isinstance(value, _Missing) and bool(value)
        if node.kind == "inverted":
            if not is_there:
                self._run(node.inner)
        elif is_there:
            self._within(value, node.inner)

    def _within(self, scope: Any, nodes: Sequence[Node]) -> None:
        self._scopes.append(scope)
        self._run(nodes)
        self._scopes.pop()

    def _found(self, node: Node) -> Any:
        value = self._look_up(node.path)
        if isinstance(value, _Missing):
            raise self._missing(node)
        return value

    def _look_up(self, path: Path) -> Any:
        outer_count, names = path
        level = len(self._scopes) - 1 - outer_count
        if level < 0:
            return _MISSING
        if not names:
            return self._scopes[level]
        # A text, a number or a list has no names: those around it are seen through it.
        while level > 0 and not isinstance(self._scopes[level], dict):
            level -= 1
        value = self._scopes[level]
        for name in names:
            if not isinstance(value, dict) or name not in value:
                return _MISSING
            value = value[name]  # pyright: ignore[reportUnknownVariableType]
        return value  # pyright: ignore[reportUnknownVariableType]

    def _missing(self, node: Node) -> ValidationError:
        names = node.path[1]
        outside = next(
            (
                level
                for level in range(1, len(self._scopes))
                if not isinstance(self._look_up((node.path[0] + level, names)), _Missing)
            ),
            None,
        )
        said = "../" * (node.path[0] + outside) + ".".join(names) if outside else None
        return ValidationError(
            f"the template needs {node.said!r}, which the model does not have",
            code="model_key_missing",
            details={"key": node.said},
            hint=f"inside a section it is written {{{{{said}}}}}" if said else None,
        )

    def _step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise ValidationError(
                f"the model makes the template write more than {MAX_STEPS:,} parts", code="invalid_model"
            )

    def _write(self, text: str) -> None:
        self._room -= len(text)
        if self._room < 0:
            raise ValidationError(
                f"the mail would be larger than {MAX_OUTPUT >> 20} MiB", code="invalid_model"
            )
        self._parts.append(text)


def _text_of(value: Any, said: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        raise ValidationError(
            f"model.{said}: is a list or an object, and no text",
            code="invalid_model",
            details={"key": said},
            hint="name a field of it, or use {{#each}}",
        )
    return to_json(value).decode()


def render(nodes: Sequence[Node], model: Mapping[str, Any], *, is_html: bool) -> str:
    """Write a template with the values of a model.

    Args:
        nodes: what `parse` returned.
        model: JSON values by name.
        is_html: whether `{{name}}` is escaped.

    Raises:
        ValidationError: a value is missing (code `model_key_missing`, which names it) or of the wrong kind, or the
            text becomes too long.
    """
    escape: Callable[[str], str] = html.escape if is_html else str
    return _Rendering(model, escape).text(nodes)
