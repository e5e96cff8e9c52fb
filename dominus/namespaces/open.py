"""dominus.open: SQL of the caller's own, and logins for other programs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, Generic, TypedDict, TypeVar, cast, overload
from urllib.parse import unquote, urlsplit

import pydantic

from dominus.contract import open as contract
from dominus.contract.db import Row
from dominus.contract.open import ColumnType
from dominus.contract.values import RowForm, wire_value
from dominus.errors import ValidationError
from dominus.hints import iterator
from dominus.namespaces.base import Namespace
from dominus.namespaces.rows import as_models, check_model

__all__ = ["Executed", "Open"]

M = TypeVar("M", bound=pydantic.BaseModel)
T = TypeVar("T")
Params = Sequence[Any] | Mapping[str, Any] | Mapping[int, Any]


class Executed(TypedDict, Generic[T]):
    """What a statement gave.

    `row_count` is the number of rows that it returned or, of INSERT, UPDATE, DELETE and MERGE, that it touched.
    `columns` are dicts of `name` and `type`, in the order of the statement; `command` is `SELECT`, `CREATE TABLE` ...
    """

    rows: list[T]
    row_count: int
    columns: list[ColumnType]
    command: str


class Open(Namespace):
    """SQL of your own: joins, aggregates, window functions, whatever PostgreSQL has, under the rights of `dominus.db`.

    A call is one statement and one transaction. Values travel as parameters: `$1`, `$2` with a list, or `:name` with a
    dict. Names without a schema are those of `public`. Secure tables are out of reach here.

    Needs scopes of its own: `open:read` for `stream`, which only reads, `open:write` for the rest.
    """

    @overload
    async def execute(
        self,
        sql: str,
        params: Params | None = None,
        *,
        limit: int | None = None,
        statement_timeout: float | None = None,
        model: None = None,
        timeout: float | None = None,
    ) -> Executed[Row]: ...
    @overload
    async def execute(
        self,
        sql: str,
        params: Params | None = None,
        *,
        limit: int | None = None,
        statement_timeout: float | None = None,
        model: type[M],
        timeout: float | None = None,
    ) -> Executed[M]: ...
    async def execute(
        self,
        sql: str,
        params: Params | None = None,
        *,
        limit: int | None = None,
        statement_timeout: float | None = None,
        model: type[pydantic.BaseModel] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Run one SQL statement: `{"rows", "row_count", "columns", "command"}`.

        Rows are dicts with Python's types, as those of `dominus.db`. A write happens once, however often it is sent.

        Args:
            sql: one statement; VACUUM and the like, which run outside of transactions, need a native session.
            params: values for `$1`, `$2` as a list (or a dict of numbers), for `:name` as a dict of names. A list is
                an array: `WHERE id = ANY($1)`. For `json` and `jsonb` any JSON value.
            limit: at most so many rows, 1 to 10,000. Without it more than 10,000 are an error, and nothing is done.
            statement_timeout: seconds for the statement; the server's (30) without it, and at most.
            model: a pydantic model; rows become instances of it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: not valid SQL (`invalid_statement`), several statements or one that means nothing here
                (`sql_refused`), parameters missing, unused or of another type (`invalid_parameters`,
                `invalid_value`), too many rows (`too_many_rows`).
            AuthorizationError: the token lacks `open:write`, or the table is out of reach.
            ConflictError: a constraint is against it.
            DominusTimeoutError: it ran longer than it may (`statement_timeout`).

        Example:
            ```python
            found = await dominus.open.execute(
                "SELECT city, count(*) AS people FROM people WHERE age >= :age GROUP BY city ORDER BY 2 DESC",
                {"age": 18},
            )
            for row in found["rows"]:
                print(row["city"], row["people"])
            ```
        """
        check_model(model)
        values, naive = _params(params)
        request = contract.ExecuteRequest(
            sql=sql, params=values, naive=naive, limit=limit, statement_timeout=statement_timeout
        )
        found = await self._call(contract.EXECUTE, request, timeout=timeout)
        rows = found["items"]
        return {
            "rows": rows if model is None else as_models(rows, model, contract.EXECUTE.name),
            "row_count": found["row_count"],
            "columns": found.get("columns", []),
            "command": found.get("command", ""),
        }

    @overload
    def stream(
        self,
        sql: str,
        params: Params | None = None,
        *,
        statement_timeout: float | None = None,
        model: None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Row]: ...
    @overload
    def stream(
        self,
        sql: str,
        params: Params | None = None,
        *,
        statement_timeout: float | None = None,
        model: type[M],
        timeout: float | None = None,
    ) -> AsyncIterator[M]: ...
    @iterator
    async def stream(
        self,
        sql: str,
        params: Params | None = None,
        *,
        statement_timeout: float | None = None,
        model: type[pydantic.BaseModel] | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Any]:
        """Iterate over the rows of a query of any size, as one snapshot, through a cursor on the server.

        Neither side ever holds more than some of the rows. The cursor keeps a database connection as long as you read:
        a caller has at most a quarter of them for this, and who reads less than 1 KiB a second for 30 s is cut
        off. For slow work on each row collect them first, or use `dominus.db.iterate`.

        Args:
            sql: a query; it runs in a transaction that only reads.
            params: as for `execute`.
            statement_timeout: seconds for each part of the rows; the server's (30) without it, and at most.
            model: a pydantic model; rows become instances of it.
            timeout: seconds for the first rows, and for each further part; the client's without it.

        Raises:
            ValidationError: as for `execute`; `read_only`: the statement writes.
            AuthorizationError: the token lacks `open:read`, or the table is out of reach.
            DominusConnectionError: the rows broke off; they are not asked for again.

        Example:
            ```python
            total = 0
            async for row in dominus.open.stream("SELECT age FROM people WHERE city = $1", ["Oslo"]):
                total += row["age"]
            ```
        """
        check_model(model)
        values, naive = _params(params)
        request = contract.SqlRequest(
            sql=sql, params=values, naive=naive, statement_timeout=statement_timeout
        )
        async with contextlib.aclosing(self._parts(request, timeout)) as parts:
            async for part in parts:
                for row in part if model is None else as_models(part, model, contract.STREAM.name):
                    yield row

    async def _parts(self, request: contract.SqlRequest, timeout: float | None) -> AsyncGenerator[list[Row]]:
        # Only a stream needs it.
        from dominus.transport.carriers.base import OpenAnswer
        from dominus.transport.row_lines import rows_of

        answer: contract.Streamed | OpenAnswer = await self._call(contract.STREAM, request, timeout=timeout)
        if not isinstance(answer, OpenAnswer):
            yield answer["items"]
            return
        core = self._caller.core
        seconds = timeout or core.shared.settings.timeout
        async with contextlib.aclosing(rows_of(answer, contract.STREAM.name, seconds, core.clock)) as parts:
            async for part in parts:
                yield part

    async def dsn(self, expires_in: int = 3600, *, timeout: float | None = None) -> str:
        """Make a login of PostgreSQL for another program, and return its URL, password included.

        The login is its own role with the rights of `dominus.db`, no more: no way leads from it to the orchestrator's
        own tables or to secure ones. It leads to PostgreSQL directly, not through the gateway; with the embedded engine
        over a socket that only this machine's user (and root) may enter.

        Args:
            expires_in: seconds in which it opens connections, 60 to 86,400. Those that are open stay.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the token lacks `open:write`.
            RateLimitError: the caller has too many logins (`too_many_logins`).

        Example:
            ```python
            dsn = await dominus.open.dsn(expires_in=600)
            # psql "$DSN", pandas.read_sql(..., dsn), a BI tool ...
            await dominus.open.revoke(dsn)
            ```
        """
        request = contract.DsnRequest(expires_in=expires_in)
        return (await self._call(contract.DSN, request, timeout=timeout))["dsn"]

    async def revoke(self, dsn: str, *, timeout: float | None = None) -> bool:
        """End a login made by `dsn`, and its connections; return whether there was one.

        Args:
            dsn: what `dsn` returned, or the name of its user.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            assert await dominus.open.revoke(await dominus.open.dsn())
            ```
        """
        username = dsn
        if "://" in dsn:
            # The password stays here.
            login = urlsplit(dsn).netloc.rpartition("@")[0]
            username = unquote(login.partition(":")[0])
        request = contract.RevokeRequest(username=username)
        return (await self._call(contract.REVOKE, request, timeout=timeout))["revoked"]


def _params(params: Params | None) -> tuple[dict[str, Any] | None, list[str] | None]:
    """Return parameters as JSON types, and which of them hold datetimes without a time zone."""
    if params is None:
        return None, None
    if isinstance(params, Mapping):
        given = {str(name): value for name, value in params.items()}
    elif isinstance(params, (list, tuple)):
        given = {str(place): value for place, value in enumerate(cast("Sequence[Any]", params), 1)}
    else:
        raise ValidationError(
            f"params: a list for $1, $2 or a dict for :name, not {type(params).__name__}",
            hint="for one value write [value]",
        )
    naive: list[str] = []
    values: dict[str, Any] = {}
    for name, value in given.items():
        form = RowForm()
        values[name] = wire_value(value, f"params[{name}]", row=form)
        if form.naive_count:
            naive.append(name)
    return values, naive or None
