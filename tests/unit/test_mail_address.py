"""Addresses of mails: what passes can carry no second header, whoever reads it."""

from __future__ import annotations

import time

import pytest

from dominus.contract.mail_address import parse_addresses


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ada@example.com", ["ada@example.com"]),
        ("Ada Lovelace <ada@example.com>", ["Ada Lovelace <ada@example.com>"]),
        ('"Lovelace, Ada" <ada@example.com>, b@c.d', ['"Lovelace, Ada" <ada@example.com>', "b@c.d"]),
        (r'"a \"b\" \\" <a@b.c>', [r'"a \"b\" \\" <a@b.c>']),
        ("Jürgen <j@bücher.de>", ["Jürgen <j@xn--bcher-kva.de>"]),
        ("a@b.c, a@b.c", ["a@b.c"]),
        ("root@localhost", ["root@localhost"]),
    ],
)
def test_addresses_are_read_and_written_the_same(text: str, shown: list[str]) -> None:
    assert [str(one) for one in parse_addresses(text)] == shown
    assert [str(one) for one in parse_addresses(", ".join(shown))] == shown


@pytest.mark.parametrize(
    "text",
    ["", ",", "x", "@b.c", "a@", "a b@c.d", "a@b..c", "a@-b.c", "a@b.c d@e.f", "<>", "é@b.c", '"a <a@b.c>', "a@b.c>", "<a@b.c",
     "a@b.c\r\nBcc: x@y.z", "a\n <a@b.c>", "a\x00@b.c", "a\u2028<a@b.c>", "a\x85b <a@b.c>", "\ud800 <a@b.c>", "a@[127.0.0.1]",
     f"{'a' * 65}@b.c", f"a@{'b.' * 130}c", ", ".join(f"u{n}@b.c" for n in range(51)), f"{'n' * 201} <a@b.c>"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_addresses(text)


@pytest.mark.parametrize(
    "text", ['"' + '\\"' * 9_999, "a" + " " * 19_000 + "b", '"' * 20_000, "<" * 20_000, "," * 20_000]
)
def test_no_text_makes_the_reader_slow(text: str) -> None:
    began = time.process_time()
    with pytest.raises(ValueError):
        parse_addresses(text)
    assert time.process_time() - began < 0.5
