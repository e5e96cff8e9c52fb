"""Reads SQL text that users write, token by token, and says what an expression may hold.

An expression is written between parentheses of ours that nothing in it can close, so PostgreSQL's own parser holds it
to be one expression. It may call the functions of a list: some others run any statement they are given, or change the
session's role.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dominus.errors import ValidationError
from dominus.orchestrator.sql.tables import is_system_schema, quote

__all__ = ["Reader", "Token"]

# A quote that follows a letter or & would begin another kind of string: E'..', U&'..', B'..'.
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>(?<![\w&"$])'(?:[^']|'')*')
    | (?P<quoted>(?<![\w&])"(?:[^"]|"")+")
    | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
    | (?P<name>[^\W\d]\w*)
    | (?P<operator>::|[-+*/<>=~!@\#%^&|?]+)
    | (?P<mark>[()\[\],.:])
    )""",
    re.VERBOSE,
)
_FUNCTIONS = frozenset(
    """
    abs age array_append array_length btrim cardinality ceil ceiling char_length character_length
    clock_timestamp coalesce concat concat_ws date date_part date_trunc exp extract floor
    gen_random_uuid greatest initcap isfinite json_array_length json_build_array json_build_object
    json_typeof jsonb_array_length jsonb_build_array jsonb_build_object jsonb_typeof least left length
    ln log lower lpad ltrim make_date make_interval make_time make_timestamptz md5 mod nextval now
    nullif num_nonnulls num_nulls octet_length overlay position power random regexp_like regexp_replace
    replace reverse right round rpad rtrim sign split_part sqrt starts_with statement_timestamp strpos
    substr substring timezone to_char to_date to_json to_jsonb to_number to_timestamp
    transaction_timestamp translate trim trunc upper uuid_generate_v4 uuidv4 uuidv7
    """.split()  # noqa: SIM905 - a list of that length is no easier to read
)
# Words of the language and types with a modifier that an opening parenthesis may follow.
_BEFORE_PARENTHESIS = frozenset(
    """
    all and any array between bit by case cast char character check decimal distinct else escape for
    from ilike in interval is like not numeric or row similar some symmetric then time timestamp to
    varchar varying when zone
    """.split()  # noqa: SIM905 - a list of that length is no easier to read
)
_STATEMENTS = frozenset({"select", "table", "values", "with", "insert", "update", "delete", "merge"})


@dataclass(frozen=True, slots=True)
class Token:
    """A word, string, number or sign."""

    kind: str
    text: str

    @property
    def word(self) -> str:
        """What an unquoted name is to PostgreSQL; empty for all else."""
        return self.text.lower() if self.kind == "name" else ""

    @property
    def name(self) -> str | None:
        """The identifier that this is, quoted or not."""
        if self.kind == "quoted":
            return self.text[1:-1].replace('""', '"')
        return self.word or None


def _tokens(text: str, what: str) -> list[Token]:
    found: list[Token] = []
    at, text = 0, text.strip()
    if "\0" in text:
        raise _refused(what, "holds NUL, which PostgreSQL has no text for")
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _refused(what, f"cannot be read at {text[at : at + 20].strip()!r}")
        token = match.group(match.lastgroup)
        if match.lastgroup == "operator" and ("--" in token or "/*" in token):
            raise _refused(what, "comments are not allowed")
        found.append(Token(match.lastgroup, token))
        at = match.end()
    if not found:
        raise _refused(what, "is empty")
    return found


def _refused(what: str, why: str, hint: str | None = None) -> ValidationError:
    return ValidationError(f"{what}: {why}", code="invalid_sql", hint=hint)


class Reader:
    """Walks over tokens."""

    def __init__(self, text: str, what: str) -> None:
        self.what = what
        self._tokens = _tokens(text, what)
        self._at = 0

    @property
    def next(self) -> Token | None:
        """The token that is not read yet; None at the end."""
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self) -> Token:
        """Step over the next token, whatever it is."""
        token = self.next
        if token is None:
            raise self.refused("ends too early")
        self._at += 1
        return token

    def accept(self, *words: str) -> bool:
        """Step over these words or marks if they are next."""
        ahead = self._tokens[self._at : self._at + len(words)]
        if [token.word or token.text for token in ahead] != list(words):
            return False
        self._at += len(words)
        return True

    def expect(self, *words: str) -> None:
        """Step over these words; raise where others stand."""
        if not self.accept(*words):
            said = self.next.text if self.next else "the end"
            raise self.refused(f"expected {' '.join(words).upper()}, found {said!r}")

    def refused(self, why: str, hint: str | None = None) -> ValidationError:
        """Return (not raise) the error for this text."""
        return _refused(self.what, why, hint)

    def name(self) -> str:
        """Read an identifier, quoted or not."""
        token = self.take()
        if token.name is None:
            raise self.refused(f"expected a name, found {token.text!r}")
        return token.name

    def table(self, schema: str) -> str:
        """Read `table` or `schema.table`; return it quoted."""
        name = self.name()
        if self.accept("."):
            schema, name = name, self.name()
        if is_system_schema(schema):
            raise self.refused(f"the schema {schema!r} is the system's")
        return f"{quote(schema)}.{quote(name)}"

    def expression(self, *, until: frozenset[str] = frozenset()) -> str:
        """Read up to the closing parenthesis that was opened before, or a word of `until`, or the end."""
        written: list[str] = []
        closing: list[str] = []
        while (token := self.next) is not None:
            if not closing and written and (token.text in ")]" or token.word in until):
                break
            self._check(token, self._tokens[self._at - 1] if self._at else None)
            self._at += 1
            written.append(token.text)
            if token.text in ("(", "["):
                closing.append(")" if token.text == "(" else "]")
            elif token.text in (")", "]") and (not closing or closing.pop() != token.text):
                raise self.refused("parentheses do not match")
        if closing or not written:
            raise self.refused("parentheses do not match" if closing else "the expression is missing")
        return " ".join(written)

    def _check_sequence(self) -> None:
        # A name that is put together could be any schema's, and would be looked up at each row.
        _, _, name, after = [*self._tokens[self._at : self._at + 4], *[Token("mark", "")] * 4][:4]
        if name.kind != "string" or after.text not in (")", "::"):
            raise self.refused("nextval takes the name of a sequence", "nextval('orders_id_seq')")

    def _check(self, token: Token, before: Token | None) -> None:
        if token.word in _STATEMENTS:
            raise self.refused(f"{token.word.upper()} is not allowed in an expression")
        if token.text == "." and before is not None and before.text in (")", "]"):
            # PostgreSQL reads (x).f as f(x) too, for any function f.
            raise self.refused("a dot after a parenthesis or bracket is not allowed")
        following = self._tokens[self._at + 1].text if self._at + 1 < len(self._tokens) else ""
        if following == "." and token.name and is_system_schema(token.name):
            raise self.refused(f"the schema {token.name!r} is the system's")
        if following != "(" or token.name is None:
            return
        if token.name == "nextval":
            self._check_sequence()
        is_qualified = before is not None and before.text == "."
        is_word = token.word in _BEFORE_PARENTHESIS and not is_qualified
        if not is_word and (is_qualified or token.name not in _FUNCTIONS):
            raise self.refused(
                f"the function {token.name!r} is not allowed here",
                f"functions that are: {', '.join(sorted(_FUNCTIONS))}",
            )
