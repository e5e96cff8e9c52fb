"""SQL of the caller's own that changes a schema: cut into statements, each of which is of a kind that may run.

Each runs alone, as a prepared statement, which PostgreSQL takes no second command in. What it does is bounded by the
data role; the kinds are for what would end the transaction around it, or leave the schema's shape for other things.
"""

from __future__ import annotations

import base64
import binascii
import re

from dominus.errors import ValidationError

__all__ = ["decode_sql", "read_statements"]

MAX_STATEMENTS = 1000
# As PostgreSQL's own lexer reads: a comment of one line ends at a carriage return, too; all beyond ASCII is of a name.
_PIECE = re.compile(
    r"""
      (?P<blank> [ \t\n\r\f\v]+ | --[^\n\r]* )
    | (?P<comment> /\* )
    | (?P<string> [eE] '(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' | "(?:[^"]|"")*" )
    | (?P<dollar> \$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$ )
    | (?P<end> ; )
    | (?P<word> [\w\x80-\U0010ffff][\w$\x80-\U0010ffff]* )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_WORDS = r"(or replace|unique|unlogged|materialized|constraint|recursive)"
_KINDS = (
    r"(table|index|view|sequence|type|domain|function|procedure|routine|aggregate|trigger|policy|rule|statistics"
    r"|column|operator|cast|collation)"
)
_ALLOWED = re.compile(rf"(create|alter|drop|comment on)( {_WORDS})* {_KINDS}\b.*", re.DOTALL)
_ALSO = re.compile(r"(grant|revoke|truncate|alter default privileges)\b.*", re.DOTALL)


def decode_sql(text: str, what: str) -> str:
    """Return the SQL of a base64 text.

    Raises:
        ValidationError: it is not base64 of UTF-8.
    """
    try:
        sql = base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, ValueError):
        raise ValidationError(f"{what}: must be the base64 of SQL in UTF-8", code="raw_refused") from None
    if "\0" in sql:
        raise ValidationError(f"{what}: holds NUL, which PostgreSQL has no text for", code="raw_refused")
    return sql


def read_statements(sql: str, what: str) -> list[str]:
    """Return the statements of a text, none of them empty.

    Raises:
        ValidationError: there is none, or one is of a kind that does not run here.
    """
    found: list[str] = []
    at = begin = 0
    words: list[str] = []
    while at < len(sql):
        match = _PIECE.match(sql, at)
        if match is None:  # pragma: no cover - `other` takes any character
            break
        at = match.end()
        if match.lastgroup == "comment":
            at = _end_of_comment(sql, at, what)
        elif match.lastgroup == "dollar":
            at = _after(sql, match.group(), at, what)
        elif match.lastgroup == "word" and len(words) < 6:
            words.append(match.group().lower())
        elif match.lastgroup == "other" and match.group() in "'\"":
            raise _refused(what, "a quote is not closed")
        elif match.lastgroup == "end":
            _add(found, sql[begin : match.start()], words, what)
            begin, words = at, []
    _add(found, sql[begin:], words, what)
    if not found:
        raise _refused(what, "there is no statement")
    if len(found) > MAX_STATEMENTS:
        raise _refused(what, f"more than {MAX_STATEMENTS} statements")
    return found


def _add(found: list[str], statement: str, words: list[str], what: str) -> None:
    if not words and not statement.strip():
        return
    begins = " ".join(words)
    if not _ALLOWED.fullmatch(begins) and not _ALSO.fullmatch(begins):
        raise _refused(
            what,
            f"{' '.join(words[:3]).upper() or statement.strip()[:20]!r} does not run here",
            "CREATE, ALTER, DROP and COMMENT ON of what is in a schema, GRANT, REVOKE and TRUNCATE",
        )
    found.append(statement.strip())


def _end_of_comment(sql: str, at: int, what: str) -> int:
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(sql, at):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    raise _refused(what, "a comment is not closed")


def _after(sql: str, tag: str, at: int, what: str) -> int:
    end = sql.find(tag, at)
    if end < 0:
        raise _refused(what, f"the text that {tag} begins is not closed")
    return end + len(tag)


def _refused(what: str, why: str, hint: str | None = None) -> ValidationError:
    return ValidationError(f"{what}: {why}", code="raw_refused", hint=hint)
