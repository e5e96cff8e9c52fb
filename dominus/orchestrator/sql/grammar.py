"""SQL text that users write for types, defaults and constraints: read by a small grammar, and written anew.

Nothing is pasted: what the grammar does not know is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dominus.errors import ValidationError
from dominus.orchestrator.sql.reader import Reader
from dominus.orchestrator.sql.tables import is_system_schema, quote

__all__ = [
    "SERIAL_TYPES",
    "ColumnRules",
    "check_name",
    "default_expression",
    "expression",
    "read_constraints",
    "read_table_constraint",
    "read_type",
]

SERIAL_TYPES = frozenset({"smallserial", "serial", "bigserial", "serial2", "serial4", "serial8"})
_MAX_NAME_BYTES = 63

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


def expression(text: str, what: str) -> str:
    """Return an SQL expression, between parentheses. Raises ValidationError when it is none that we allow."""
    reader = Reader(text, what)
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
    reader = Reader(text, what)
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


def _zone(reader: Reader, word: str) -> str:
    if word in {"time", "timestamp"}:
        for choice in ("with", "without"):
            if reader.accept(choice, "time", "zone"):
                return f" {choice} time zone"
    return ""


def _modifier(reader: Reader) -> str:
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
    reader = Reader(text, what)
    while reader.next is not None:
        _read_clause(reader, schema, rules)


def _read_clause(reader: Reader, schema: str, rules: ColumnRules) -> None:
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
        rules.others.append(_references(reader, schema, is_of_column=True))
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


def _set_nullable(reader: Reader, rules: ColumnRules, *, is_nullable: bool) -> None:
    if rules.is_nullable not in {None, is_nullable}:
        raise reader.refused("it is said to be both NULL and NOT NULL")
    rules.is_nullable = is_nullable


def read_table_constraint(kind: str, definition: str, what: str, schema: str) -> str:
    """Return a constraint of a table: its kind and what follows, with or without the words of the kind before it.

    Args:
        kind: CHECK, UNIQUE, PRIMARY KEY or FOREIGN KEY.
        definition: a boolean expression, names of columns, or names of columns and REFERENCES.
        what: names it in errors.
        schema: where it refers to.

    Raises:
        ValidationError: it is none of these.
    """
    words = kind.lower().replace("_", " ").split()
    if " ".join(words) not in _KINDS:
        raise ValidationError(
            f"{what}: {kind!r} is no kind of constraint",
            code="invalid_sql",
            hint=f"one of {', '.join(_KINDS)}",
        )
    reader = Reader(definition, what)
    reader.accept(*words)
    if words == ["check"]:
        written = f"CHECK ({reader.expression()})"
    else:
        written = f"{' '.join(words).upper()} {_names(reader)}"
        if words == ["foreign", "key"]:
            written += f" {_foreign(reader, schema)}"
    if reader.next is not None:
        raise reader.refused(f"{reader.next.text!r} is no part of a constraint")
    return written


_KINDS = ("check", "unique", "primary key", "foreign key")


def _names(reader: Reader) -> str:
    is_open = reader.accept("(")
    names = [quote(reader.name())]
    while reader.accept(","):
        names.append(quote(reader.name()))
    if is_open:
        reader.expect(")")
    return f"({', '.join(names)})"


def _foreign(reader: Reader, schema: str) -> str:
    reader.expect("references")
    return _references(reader, schema)


def _references(reader: Reader, schema: str, *, is_of_column: bool = False) -> str:
    written = f"REFERENCES {reader.table(schema)}"
    if reader.next is not None and reader.next.text == "(":
        names = _names(reader)
        if is_of_column and "," in names:
            raise reader.refused("one column refers to one column")
        written += f" {names}"
    while reader.accept("on"):
        event = reader.take().word
        action = next((action for action in _ACTIONS if reader.accept(*action.split())), None)
        if event not in {"delete", "update"} or action is None:
            raise reader.refused("expected ON DELETE or ON UPDATE and an action", ", ".join(_ACTIONS).upper())
        written += f" ON {event.upper()} {action.upper()}"
    return written


def _generated(reader: Reader) -> str:
    if reader.accept("by", "default", "as", "identity"):
        return "GENERATED BY DEFAULT AS IDENTITY"
    reader.expect("always", "as")
    if reader.accept("identity"):
        return "GENERATED ALWAYS AS IDENTITY"
    reader.expect("(")
    written = reader.expression()
    reader.expect(")", "stored")
    return f"GENERATED ALWAYS AS ({written}) STORED"
