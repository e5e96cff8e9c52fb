"""The template engine: Postmark's syntax, escaping, names of what is missing, and bounds."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from dominus.errors import ValidationError
from dominus.orchestrator.engines.mail.builtin import BUILT_IN
from dominus.orchestrator.engines.mail.template import parse, render


def write(text: str, model: dict[str, Any], *, is_html: bool = False) -> str:
    return render(parse(text), model, is_html=is_html)


@pytest.mark.parametrize(
    ("text", "model", "expected"),
    [
        ("Hello {{ name }}!", {"name": "Ada"}, "Hello Ada!"),
        ("{{a.b.c}}", {"a": {"b": {"c": 1}}}, "1"),
        (
            "{{n}} {{t}} {{f}} [{{nothing}}]",
            {"n": 2.5, "t": True, "f": False, "nothing": None},
            "2.5 true false []",
        ),
        ("{{#p}}{{first}} {{../x}}{{/p}}", {"p": {"first": "A"}, "x": "X"}, "A X"),
        ("{{#each l}}<{{n}}-{{../x}}>{{/each}}", {"l": [{"n": 1}, {"n": 2}], "x": "X"}, "<1-X><2-X>"),
        ("{{#each l}}{{.}},{{/each}}", {"l": ["a", 1]}, "a,1,"),
        ("{{#url}}go {{url}} {{.}}{{/url}}{{^url}}none{{/url}}", {"url": "u"}, "go u u"),
        ("{{#url}}go{{/url}}{{^url}}none{{/url}}", {}, "none"),
        ("{{#l}}some: {{#each .}}{{.}}{{/each}}{{/l}}{{^l}}none{{/l}}", {"l": [1, 2]}, "some: 12"),
        ("{{#l}}some{{/l}}{{^l}}none{{/l}}", {"l": []}, "none"),
        ("a{{! {{ anything }}b", {}, "ab"),
        ("a{color:red}@media x{b{c:d}}", {}, "a{color:red}@media x{b{c:d}}"),
        ("{{x}}", {"x": "{{y}}"}, "{{y}}"),
    ],
)
def test_the_syntax(text: str, model: dict[str, Any], expected: str) -> None:
    assert write(text, model) == expected


def test_html_is_escaped_unless_it_is_asked_for_as_it_is() -> None:
    model = {"x": '<b a="1">&\''}
    assert write("{{x}}", model, is_html=True) == "&lt;b a=&quot;1&quot;&gt;&amp;&#x27;"
    assert write("{{{x}}}{{&x}}", model, is_html=True) == model["x"] * 2
    assert write("{{x}}", model) == model["x"]


@pytest.mark.parametrize(
    ("text", "model", "key"),
    [
        ("{{name}}", {}, "name"),
        ("{{a.b}}", {"a": {}}, "a.b"),
        ("{{a.b}}", {"a": "text"}, "a.b"),
        ("{{#each items}}x{{/each}}", {}, "items"),
        ("{{#p}}{{x}}{{/p}}", {"p": {"y": 1}, "x": 1}, "x"),
        ("{{name.__class__}}", {"name": "x"}, "name.__class__"),
    ],
)
def test_what_is_missing_is_named(text: str, model: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        write(text, model)
    assert (caught.value.code, caught.value.details) == ("model_key_missing", {"key": key})


@pytest.mark.parametrize(
    "text", ["{{> layout}}", "{{>layout}}", "{{=<% %>=}}", "{{ x | upper }}", "{{{> p}}}", "{{&> p}}"]
)
def test_there_are_no_partials_filters_and_other_delimiters(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        write(text, {"x": "y", "p": "y"})
    assert caught.value.code == "invalid_template"


def test_a_name_of_an_outer_scope_is_suggested() -> None:
    with pytest.raises(ValidationError, match=r"\{\{\.\./x\}\}"):
        write("{{#p}}{{x}}{{/p}}", {"p": {"y": 1}, "x": 1})


@pytest.mark.parametrize(
    "text",
    ["{{", "{{name", "{{#a}}", "{{/a}}", "{{#a}}{{/b}}", "{{#each a}}{{/a}}", "{{}}", "{{> partial}}", "{{{ @content }}}",
     "{{a b}}", "{{a.}}", "{{a()}}", "{{#a}}" * 40 + "{{/a}}" * 40, "{{a}}" * 5001],
)  # fmt: skip
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(text)
    assert caught.value.code == "invalid_template"
    assert caught.value.message.startswith("line 1")


@pytest.mark.parametrize("model", [{"x": {"a": 1}}, {"x": [1]}])
def test_an_object_or_a_list_is_no_text(model: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="x"):
        write("{{x}}", model)


def test_a_model_that_makes_a_template_grow_is_stopped_soon() -> None:
    nested = "{{#each l}}{{#each ../l}}{{#each ../../l}}x{{/each}}{{/each}}{{/each}}"
    began = time.process_time()
    with pytest.raises(ValidationError) as caught:
        write(nested, {"l": list(range(1000))})
    assert caught.value.code == "invalid_model"
    with pytest.raises(ValidationError):
        write("{{#each l}}{{../big}}{{/each}}", {"l": list(range(1000)), "big": "x" * 100_000})
    assert time.process_time() - began < 2


DEEP: dict[str, Any] = {"l": list(range(20_000)), "x": "y"}
for _ in range(30):
    DEEP = {"a": DEEP, "x": "y"}


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("{{#a}}" * 30 + "{{#each l}}{{x}}{{/each}}" + "{{/a}}" * 30, DEEP),
        ("{{#a}}" * 30 + "{{#each l}}{{" + "../" * 31 + "x}}{{/each}}" + "{{/a}}" * 30, DEEP),
        ("{{#each l}}{{/each}}" * 2000, {"l": list(range(100_000))}),
        ("{{#each l}}{{#each ../l}}{{/each}}{{/each}}", {"l": list(range(100_000))}),
        ("{{" + ".".join("a" * 120_000) + "}}", {"a": 1}),
        ("{{" + "../" * 80_000 + "a}}", {"a": 1}),
        ("{{v}}" * 4_999, {"v": '"' * 250_000}),
        ("{{{v}}}" * 4_999, {"v": "x" * 250_000}),
        ("{{f}}{{#f}}{{.}}{{/f}}", {"f": {"__call__": 1}}),
        ("{{f.__class__.__mro__}}", {"f": "x"}),
        ("{{#each s}}x{{/each}}", {"s": "text" * 50_000}),
    ],
)
def test_no_model_makes_rendering_slow_and_nothing_is_called(text: str, model: dict[str, Any]) -> None:
    began = time.process_time()
    with pytest.raises(ValidationError):
        write(text, model, is_html=True)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "text", ["{{!" * 80_000, "{{" * 100_000, "{" * 250_000, "{{a" * 80_000, "}}" * 100_000]
)
def test_no_text_makes_the_parser_slow(text: str) -> None:
    began = time.process_time()
    with contextlib.suppress(ValidationError):
        parse(text)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("alias", sorted(BUILT_IN))
def test_the_built_in_ones_need_what_their_helpers_give(alias: str) -> None:
    model = {"name": "<Ada>", "product_name": "P", "action_url": "https://x/?a=1&b=2", "inviter_name": "C"}
    parts = BUILT_IN[alias]
    assert "https://x/?a=1&b=2" in write(parts.text or "", model)
    shown = write(parts.html or "", model, is_html=True)
    assert 'href="https://x/?a=1&amp;b=2"' in shown
    assert "<Ada>" not in shown
    assert "P" in write(parts.subject, model)
