"""What a change names: not the schemas of tenants of another project or environment.

All users' tables belong to one role, so PostgreSQL would allow it: a foreign key that tells which keys others have, a
default that draws from their sequence, a view of their rows.
"""

from __future__ import annotations

import re

from dominus.errors import NotFoundError
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.services.ddl.records import fetched
from dominus.orchestrator.sql.changes import PLACE, Change

__all__ = ["require_own_schemas"]

_QUALIFIED = re.compile(r'(?:"((?:[^"]|"")+)"|([^\W\d][\w$-]*))"?\s*\.')
_OTHERS = """
SELECT d.name
FROM dominus.ddl_schemas d
WHERE d.project IS NOT NULL AND (d.project, d.environment) <> ($1, $2) AND position(d.name IN lower($3)) > 0
"""


async def require_own_schemas(ctx: Context, change: Change) -> None:
    """Raise NotFoundError (`unknown_schema`) where a change names a schema that is not there for the caller.

    Of users' own text every word counts, those in function bodies too. A name that such a body puts together is not
    found: who may send it may do what a session may.
    """
    text = "\n".join([*change.up, *(change.down or ())])
    if not change.is_raw:
        text = "\n".join(
            quoted.replace('""', '"') or plain
            for quoted, plain in _QUALIFIED.findall(text.replace(f"{PLACE}.", " "))
        )
    if not text:
        return
    for row in await fetched(ctx, _OTHERS, text):
        schema: str = row["name"]
        if re.search(rf"(?<![\w$]){re.escape(schema)}(?![\w$-])", text, re.IGNORECASE):
            raise NotFoundError(
                f"there is no schema {schema!r}", code="unknown_schema", details={"schema": schema}
            )
