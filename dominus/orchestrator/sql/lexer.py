"""SQL cut into tokens, as far as it takes to tell what is code from what is text. PostgreSQL does the parsing."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Token", "UnclosedError", "tokens_of"]

# As PostgreSQL's scanner has them, with standard_conforming_strings, which nobody turns off in our sessions.
_PIECE = re.compile(
    r"""
      (?P<blank> \s+ | --[^\r\n]* )
    | (?P<comment> /\* )
    | (?P<string> [eE] '(?:[^'\\]|''|\\.)*' | (?:[bBnNxX]|[uU]&)? '(?:[^']|'')*' )
    | (?P<quoted> (?:[uU]&)? "(?:[^"]|"")*" )
    | (?P<dollar> \$(?:[^\W\d]\w*)?\$ )
    | (?P<parameter> \$\d+ )
    | (?P<cast> :[:=] )
    | (?P<name> :[^\W\d]\w* )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<number> \d[\w.]* )
    | (?P<end> ; )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


class Token(NamedTuple):
    """A part of a statement; neither comments nor blanks are tokens."""

    kind: str
    """`word`, `string`, `quoted` (a name), `parameter` (`$1`), `name` (`:id`), `number`, `cast`, `end` or `other`."""
    text: str
    start: int
    end: int


class UnclosedError(ValueError):
    """A quote or a comment has no end."""


def tokens_of(sql: str) -> list[Token]:
    """Return the tokens of a text.

    Raises:
        UnclosedError: a quote, a dollar-quoted text or a comment is not closed.
    """
    found: list[Token] = []
    at = 0
    while at < len(sql) and (match := _PIECE.match(sql, at)) is not None:
        start, at = at, match.end()
        kind = match.lastgroup or ""
        if kind == "comment":
            at = _end_of_comment(sql, at)
        elif kind == "dollar":
            at = _after(sql, match.group(), at)
            found.append(Token("string", sql[start:at], start, at))
        elif kind == "other" and match.group() in "'\"":
            raise UnclosedError("a quote is not closed")
        elif kind != "blank":
            found.append(Token(kind, match.group(), start, at))
    return found


def _end_of_comment(sql: str, at: int) -> int:
    depth = 1
    for match in _COMMENT_EDGE.finditer(sql, at):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    raise UnclosedError("a comment is not closed")


def _after(sql: str, tag: str, at: int) -> int:
    end = sql.find(tag, at)
    if end < 0:
        raise UnclosedError(f"the text that {tag} begins is not closed")
    return end + len(tag)
