"""SQL text that users write for types, defaults and constraints: read by a small grammar, and written anew.

Nothing is pasted: what the grammar does not know is refused. An expression is written between parentheses of
ours that nothing in it can close, so PostgreSQL's own parser holds it to be one expression. It may call the
functions of a list: some others run any statement they are given, or change the session's role.
"""
# Over 350 lines since a grammar is read as one: its words, its reader and what it refuses.

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dominus.errors import ValidationError
from dominus.orchestrator.sql.tables import is_system_schema, quote

__all__ = [
    "SERIAL_TYPES",
    "ColumnRules",
    "check_name",
    "default_expression",
    "expression",
    "read_constraints",
    "read_type",
]

SERIAL_TYPES = frozenset({"smallserial", "serial", "bigserial", "serial2", "serial4", "serial8"})
_MAX_NAME_BYTES = 63

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
_CLAUSES = frozenset({"primary", "not", "null", "unique", "check", "references", "default", "generated"})
_VALUE_WORDS = frozenset(
    {
        *("true", "false", "null"),
        *("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"),
        *("current_user", "session_user", "current_role", "user"),
    }
)
"""Words that are values by themselves; any other bare word is the name of a column."""
_SECOND_WORDS = {"double": "precision", "character": "varying", "bit": "varying"}
_ACTIONS = ("cascade", "restrict", "set null", "set default", "no action")


@dataclass(frozen=True, slots=True)
class _Token:
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


def _tokens(text: str, what: str) -> list[_Token]:
    found: list[_Token] = []
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
        found.append(_Token(match.lastgroup, token))
        at = match.end()
    if not found:
        raise _refused(what, "is empty")
    return found


def _refused(what: str, why: str, hint: str | None = None) -> ValidationError:
    return ValidationError(f"{what}: {why}", code="invalid_sql", hint=hint)


def check_name(name: str, what: str) -> str:
    """Return a name that a new table or column may have, quoted.

    Raises:
        ValidationError: it is longer than 63 bytes, or not made of letters, digits and underscores.
    """
    if not re.fullmatch(r"[^\W\d]\w*", name):
        raise ValidationError(
            f"{name!r} cannot be the name of a {what}",
            code="invalid_name",
            hint="letters, digits and underscores, not beginning with a digit",
        )
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise ValidationError(f"the {what} name {name!r} has more than 63 bytes", code="invalid_name")
    return quote(name)


class _Reader:
    """Walks over tokens."""

    def __init__(self, text: str, what: str) -> None:
        self.what = what
        self._tokens = _tokens(text, what)
        self._at = 0

    @property
    def next(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self) -> _Token:
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
        if not self.accept(*words):
            said = self.next.text if self.next else "the end"
            raise self.refused(f"expected {' '.join(words).upper()}, found {said!r}")

    def refused(self, why: str, hint: str | None = None) -> ValidationError:
        return _refused(self.what, why, hint)

    def name(self) -> str:
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

    def _check(self, token: _Token, before: _Token | None) -> None:
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
        is_qualified = before is not None and before.text == "."
        is_word = token.word in _BEFORE_PARENTHESIS and not is_qualified
        if not is_word and (is_qualified or token.name not in _FUNCTIONS):
            raise self.refused(
                f"the function {token.name!r} is not allowed here",
                f"functions that are: {', '.join(sorted(_FUNCTIONS))}",
            )


def expression(text: str, what: str) -> str:
    """Return an SQL expression, between parentheses. Raises ValidationError when it is none that we allow."""
    reader = _Reader(text, what)
    written = reader.expression()
    if reader.next is not None:
        raise reader.refused("parentheses do not match")
    return f"({written})"


def default_expression(text: str, what: str) -> str:
    """Return a default, between parentheses; it cannot name a column, and most often means a text that does.

    Raises:
        ValidationError: it is none that we allow.
    """
    word = text.strip()
    if re.fullmatch(r"[A-Za-z_]\w*", word, re.ASCII) and word.lower() not in _VALUE_WORDS:
        raise ValidationError(
            f"{what}: {word!r} is the name of a column, and a default can use none",
            code="invalid_sql",
            hint=f"a text has quotes of its own: \"'{word}'\"",
        )
    return expression(text, what)


def read_type(text: str, what: str) -> str:
    """Return the name of a type as PostgreSQL reads it; whether there is one is PostgreSQL's to say."""
    reader = _Reader(text, what)
    token = reader.take()
    if token.name is None:
        raise reader.refused(f"{token.text!r} is no type")
    written = token.word or token.text
    if (second := _SECOND_WORDS.get(written)) and reader.accept(second):
        written += f" {second}"
    if reader.accept("."):
        if is_system_schema(token.name):
            raise reader.refused(f"the schema {token.name!r} is the system's")
        written = f"{quote(token.name)}.{quote(reader.name())}"
    written += _modifier(reader) + _zone(reader, token.word)
    while reader.accept("["):
        if reader.next is not None and reader.next.text.isdigit():
            reader.take()
        reader.expect("]")
        written += "[]"
    if reader.next is not None:
        raise reader.refused(
            f"{reader.next.text!r} is no part of a type", "constraints and defaults have fields of their own"
        )
    return written


def _zone(reader: _Reader, word: str) -> str:
    if word in {"time", "timestamp"}:
        for choice in ("with", "without"):
            if reader.accept(choice, "time", "zone"):
                return f" {choice} time zone"
    return ""


def _modifier(reader: _Reader) -> str:
    if not reader.accept("("):
        return ""
    numbers: list[str] = []
    while not numbers or reader.accept(","):
        sign = "-" if numbers and reader.accept("-") else ""
        token = reader.take()
        if not re.fullmatch(r"\d{1,9}", token.text, re.ASCII) or len(numbers) == 2:
            raise reader.refused("a type takes one or two whole numbers")
        numbers.append(sign + token.text)
    reader.expect(")")
    return f"({', '.join(numbers)})"


@dataclass(slots=True)
class ColumnRules:
    """What holds for a column, each part ready to be written."""

    is_primary_key: bool = False
    is_unique: bool = False
    is_nullable: bool | None = None
    """None: not said."""
    default: str | None = None
    others: list[str] = field(default_factory=list[str])
    """CHECK, REFERENCES and GENERATED clauses."""

    def clauses(self) -> str:
        """Return everything but the primary key, which is the table's."""
        parts = [
            *self.others,
            f"DEFAULT {self.default}" if self.default else "",
            "NOT NULL" if self.is_nullable is False else "",
            "UNIQUE" if self.is_unique else "",
        ]
        return "".join(f" {part}" for part in parts if part)


def read_constraints(text: str, what: str, schema: str, rules: ColumnRules) -> None:
    """Read one or several constraint clauses of a column into its rules; `schema` is where it refers to."""
    reader = _Reader(text, what)
    while reader.next is not None:
        _read_clause(reader, schema, rules)


def _read_clause(reader: _Reader, schema: str, rules: ColumnRules) -> None:
    if reader.accept("primary", "key"):
        rules.is_primary_key = True
    elif reader.accept("not", "null"):
        _set_nullable(reader, rules, is_nullable=False)
    elif reader.accept("null"):
        _set_nullable(reader, rules, is_nullable=True)
    elif reader.accept("unique"):
        rules.is_unique = True
    elif reader.accept("check"):
        reader.expect("(")
        rules.others.append(f"CHECK ({reader.expression()})")
        reader.expect(")")
    elif reader.accept("references"):
        rules.others.append(_references(reader, schema))
    elif reader.accept("generated"):
        rules.others.append(_generated(reader))
    elif reader.accept("default"):
        if rules.default is not None:
            raise reader.refused("there are two defaults")
        rules.default = f"({reader.expression(until=_CLAUSES)})"
    else:
        found = reader.take().text
        raise reader.refused(
            f"{found!r} begins no constraint", f"one of {', '.join(sorted(_CLAUSES)).upper()}"
        )


def _set_nullable(reader: _Reader, rules: ColumnRules, *, is_nullable: bool) -> None:
    if rules.is_nullable not in {None, is_nullable}:
        raise reader.refused("it is said to be both NULL and NOT NULL")
    rules.is_nullable = is_nullable


def _references(reader: _Reader, schema: str) -> str:
    written = f"REFERENCES {reader.table(schema)}"
    if reader.accept("("):
        written += f" ({quote(reader.name())})"
        reader.expect(")")
    while reader.accept("on"):
        event = reader.take().word
        action = next((action for action in _ACTIONS if reader.accept(*action.split())), None)
        if event not in {"delete", "update"} or action is None:
            raise reader.refused("expected ON DELETE or ON UPDATE and an action", ", ".join(_ACTIONS).upper())
        written += f" ON {event.upper()} {action.upper()}"
    return written


def _generated(reader: _Reader) -> str:
    if reader.accept("by", "default", "as", "identity"):
        return "GENERATED BY DEFAULT AS IDENTITY"
    reader.expect("always", "as")
    if reader.accept("identity"):
        return "GENERATED ALWAYS AS IDENTITY"
    reader.expect("(")
    written = reader.expression()
    reader.expect(")", "stored")
    return f"GENERATED ALWAYS AS ({written}) STORED"
