"""SQL of the caller's own: cut, given its parameters, and wrapped so that PostgreSQL writes its rows as JSON.

It runs as the data role, whatever it is. What is refused here has no meaning in a transaction of one statement; nothing
stands on it that matters for safety.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic_core import to_json

from dominus.contract.open import SqlRequest
from dominus.contract.suggestion import suggestion
from dominus.errors import ValidationError
from dominus.orchestrator.sql.answer_size import BOUNDED, MAX_ANSWER_BYTES, measured
from dominus.orchestrator.sql.lexer import Token, UnclosedError, tokens_of
from dominus.orchestrator.sql.parameters import array_text
from dominus.orchestrator.sql.tables import Column, Table

__all__ = ["Given", "lines", "page", "read_sql", "result_of"]

_QUERIES = frozenset({"select", "values", "table"})
_CHANGES = frozenset({"insert", "update", "delete", "merge"})
_TRANSACTION = frozenset(
    {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare"}
)
_SESSION = frozenset(
    {
        *("set", "reset", "discard", "listen", "unlisten", "execute", "deallocate"),
        *("declare", "fetch", "move", "close", "load"),
    }
)
_OPERANDS = frozenset({"word", "quoted", "number", "parameter", "name", "string"})
_NUMBER = re.compile(r"[1-9]\d{0,4}")
_NAME = '"dominus rows"'
"""Of the user's statement within ours; no statement of theirs can mean it by accident."""


@dataclass(frozen=True, slots=True)
class Given:
    """A statement as the caller gave it."""

    sql: str
    tokens: Sequence[Token]
    numbers: Mapping[int, int]
    """Place of a token -> the number of the parameter that it is."""
    values: Sequence[Any]
    names: Sequence[str]
    """What the caller calls the parameters."""
    naive: frozenset[str]

    @property
    def command(self) -> str:
        """The first word, in capitals; of a WITH the word of its main statement."""
        words = (token.text.upper() for token in self.tokens[max(self._main, 0) :] if token.kind == "word")
        return next(words, "")

    @property
    def is_change(self) -> bool:
        """Whether the main statement writes rows."""
        return self.command.lower() in _CHANGES

    @property
    def is_wrapped(self) -> bool:
        """Whether it can stand in a WITH, so that its rows can be asked for in another form."""
        return self._main >= 0

    @property
    def _main(self) -> int:
        """The place of the token at which the main statement begins, -1 where there is none that can be wrapped."""
        first = self.tokens[0]
        if first.text.lower() == "with":
            return _main_after_with(self.tokens)
        return 0 if first.text == "(" or first.text.lower() in _QUERIES | _CHANGES else -1

    def text(self, types: Sequence[Column] | None = None, begin: int = 0, end: int | None = None) -> str:
        """Return the statement with `$1` for its parameters; with `types` each as text that is cast to its type."""
        parts: list[str] = []
        tokens = self.tokens[begin:end]
        at = tokens[0].start if tokens else 0
        for place, token in enumerate(tokens, begin):
            number = self.numbers.get(place)
            if number is not None:
                written = f"${number}" if types is None else f"(${number}::text::{types[number - 1].type})"
                parts.append(self.sql[at : token.start] + written)
                at = token.end
        return "".join(parts) + (self.sql[at : tokens[-1].end] if tokens else "")

    def wrapped(self, types: Sequence[Column]) -> str:
        """Return the WITH clause under which the statement's rows are `_NAME`."""
        main = self._main
        before = f"{self.text(types, 0, main)}\n, " if main else "WITH "
        return f"{before}{_NAME} AS (\n{self.text(types, main)}\n)"

    def arguments(self, types: Sequence[Column]) -> list[str | None]:
        """Return the values as the text of their types.

        Raises:
            ValidationError: a value is none of its type.
        """
        return [
            self._argument(name, value, column)
            for name, value, column in zip(self.names, self.values, types, strict=True)
        ]

    def _argument(self, name: str, value: Any, column: Column) -> str | None:
        if value is None:
            return None
        if name in self.naive and column.kind == "timestamptz":
            raise ValidationError(
                f"params: the datetime of {name!r} has no time zone, and the parameter is {column.type}",
                code="invalid_value",
                hint="use datetime.now(timezone.utc), or value.replace(tzinfo=...)",
            )
        if column.is_json:
            return to_json(value).decode()
        if isinstance(value, list) and column.is_array:
            return array_text(cast("list[Any]", value))
        if isinstance(value, (list, dict)):
            kind = "a list" if isinstance(value, list) else "an object"
            hint = (
                "for one of several write `= ANY($1)`" if isinstance(value, list) else "cast it: `$1::jsonb`"
            )
            raise _wrong(f"parameter {name!r} is {column.type}, not {kind}", hint)
        if isinstance(value, bool):
            return "true" if value else "false"
        return value if isinstance(value, str) else str(value)


def read_sql(request: SqlRequest) -> Given:
    """Cut a statement and give it its parameters.

    Raises:
        ValidationError: it is none, or several, or of a kind that does not run here; parameters are missing or unused.
    """
    try:
        tokens = tokens_of(request.sql)
    except UnclosedError as error:
        raise _refused(str(error)) from None
    while tokens and tokens[-1].kind == "end":
        tokens.pop()
    if not tokens:
        raise _refused("there is no statement")
    if any(token.kind == "end" for token in tokens):
        raise _refused("one statement a call", "what belongs together runs in a native session's transaction")
    _refuse_kind(tokens[0].text.lower())
    params = request.params or {}
    if isinstance(params, list):
        params = {str(place): value for place, value in enumerate(params, 1)}
    naive = frozenset(request.naive or ())
    if all(_NUMBER.fullmatch(name) for name in params):
        return _numbered(request.sql, tokens, params, naive)
    return _named(request.sql, tokens, params, naive)


def _refuse_kind(word: str) -> None:
    if word in _TRANSACTION:
        raise _refused(
            f"{word.upper()} does not run here: each call is a transaction of its own",
            "transactions of several statements run in `dominus.sessions.postgres()`",
        )
    if word in _SESSION:
        raise _refused(
            f"{word.upper()} does not run here: the next call has another session",
            "what a session keeps is for `dominus.sessions.postgres()`",
        )
    if word == "copy":
        raise _refused("COPY does not run here", "use db.bulk_insert, open.stream or a native session")


def _numbered(sql: str, tokens: list[Token], params: Mapping[str, Any], naive: frozenset[str]) -> Given:
    if stray := next((name for _, name in _names_in(tokens, ())), None):
        raise _wrong(f"no value for :{stray}", f'pass {{"{stray}": ...}}')
    numbers = {place: int(token.text[1:]) for place, token in enumerate(tokens) if token.kind == "parameter"}
    wanted, given = set(numbers.values()), {int(name) for name in params}
    if missing := sorted(wanted - given):
        raise _wrong(f"no value for {', '.join(f'${number}' for number in missing)}")
    if unused := sorted(given - wanted):
        raise _wrong(f"the statement has no {', '.join(f'${number}' for number in unused)}")
    if given and max(given) != len(given):
        raise _wrong(f"parameters are $1 to ${len(given)}, without gaps")
    names = [str(number) for number in sorted(given)]
    values = [params[name] for name in names]
    marked = frozenset(f"${name}" for name in naive)
    return Given(sql, tokens, numbers, values, [f"${name}" for name in names], marked)


def _named(sql: str, tokens: list[Token], params: Mapping[str, Any], naive: frozenset[str]) -> Given:
    if any(token.kind == "parameter" for token in tokens):
        raise _wrong("the statement has $1 and the like, the parameters have names: use one of both")
    found = _names_in(tokens, params)
    if stray := next((name for _, name in found if name not in params), None):
        raise _wrong(f"no value for :{stray}", suggestion(stray, params))
    names: list[str] = []
    numbers: dict[int, int] = {}
    for place, name in found:
        if name not in names:
            names.append(name)
        numbers[place] = names.index(name) + 1
    if unused := [name for name in params if name not in names]:
        raise _wrong(f"the statement has no :{unused[0]}", suggestion(unused[0], names))
    return Given(sql, tokens, numbers, [params[name] for name in names], names, naive)


def _names_in(tokens: Sequence[Token], known: Collection[str]) -> list[tuple[int, str]]:
    """Return place and name of each `:name`; in a slice, `items[1:n]`, it is a column."""
    found: list[tuple[int, str]] = []
    depth = 0
    for place, token in enumerate(tokens):
        depth += (token.text == "[") - (token.text == "]")
        if token.kind != "name":
            continue
        name, before = token.text[1:], tokens[place - 1]
        is_slice = depth > 0 and (before.kind in _OPERANDS or before.text in {")", "]"})
        if not is_slice and not (before.text == "[" and name not in known):
            found.append((place, name))
    return found


def _main_after_with(tokens: Sequence[Token]) -> int:
    """Return where the main statement begins: no name of a list, no query in parentheses."""
    depth = 0
    before = ""
    for place, token in enumerate(tokens):
        word = token.text.lower() if token.kind in {"word", "other"} else ""
        if depth == 0 and place:
            if word in _QUERIES | _CHANGES and before not in {"with", "recursive", ","}:
                return place
            if word == "(" and before == ")":
                return place
        depth += (word == "(") - (word == ")")
        before = word
    return -1


def result_of(columns: Sequence[Column]) -> Table:
    """Return the rows of a statement as a table.

    Raises:
        ValidationError: two columns have one name, and a row of the answer would lose one of them.
    """
    names = [column.name for column in columns]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise ValidationError(
            f"two columns are called {twice!r}",
            code="duplicate_column",
            hint=f'write `... AS other_name`, since a row is an object: "{twice}" can be in it once',
        )
    return Table(0, "", "", "", {column.name: column for column in columns}, (), ())


def page(given: Given, table: Table, types: Sequence[Column], cap: int) -> str:
    """Return the statement for (JSON of at most `cap` rows, how many there are of them, rows touched)."""
    selected, _ = table.select_list()
    answer = measured(table, None, f"SELECT {selected} FROM {_NAME} AS t LIMIT {cap}")
    touched = f"(SELECT count(*) FROM {_NAME})" if given.is_change else "NULL::int8"
    return (
        f"{given.wrapped(types)} SELECT {BOUNDED}, q.n, {touched} FROM"
        f" (SELECT {answer.rows} AS j, {answer.size} AS size, count(*) AS n FROM {answer.source}) AS q"
    )


def lines(given: Given, table: Table, types: Sequence[Column]) -> str:
    """Return the statement for the JSON of each row, NULL for one that no answer holds."""
    selected, _ = table.select_list()
    return (
        f"{given.wrapped(types)} SELECT CASE WHEN octet_length(x.j) <= {MAX_ANSWER_BYTES} THEN x.j END FROM"
        f" (SELECT row_to_json(r.*)::text AS j FROM (SELECT {selected} FROM {_NAME} AS t) AS r) AS x"
    )


def _refused(message: str, hint: str | None = None) -> ValidationError:
    return ValidationError(f"sql: {message}", code="sql_refused", hint=hint)


def _wrong(message: str, hint: str | None = None) -> ValidationError:
    return ValidationError(f"params: {message}", code="invalid_parameters", hint=hint)
