"""A web service on Dominus. Set DOMINUS_URL and DOMINUS_TOKEN, then: uvicorn fastapi_app:app"""

import contextlib
from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel

from dominus import ConflictError, Dominus, NotFoundError, dominus
from dominus.integrations.fastapi import Principal, install, require_jwt, require_scopes, user_client


class NewOrder(BaseModel):
    customer: str
    total: Decimal


class Order(NewOrder):
    id: UUID
    status: str
    placed_by: str


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    # Another worker, or an earlier start, may have made it.
    with contextlib.suppress(ConflictError):
        await dominus.ddl.add_table(
            "web_orders",
            [
                {"name": "id", "type": "UUID", "primary_key": True, "default": "gen_random_uuid()"},
                {"name": "customer", "type": "TEXT", "nullable": False},
                {"name": "total", "type": "NUMERIC(12,2)", "nullable": False},
                {"name": "status", "type": "TEXT", "nullable": False, "default": "'open'"},
                {"name": "placed_by", "type": "TEXT", "nullable": False},
            ],
        )
    yield


app = FastAPI(lifespan=lifespan)
# Errors as problem+json, X-Request-Id, connections before the first request and none after the last.
install(app)

Caller = Annotated[Principal, Depends(require_jwt)]
Writer = Annotated[Principal, Depends(require_scopes("orders:write"))]
AsUser = Annotated[Dominus, Depends(user_client)]


@app.post("/orders", status_code=201)
async def place_order(order: NewOrder, writer: Writer) -> Order:
    # A total that PostgreSQL refuses is a ValidationError, and so a 400 that says why.
    row = await dominus.db.insert("web_orders", {**order.model_dump(), "placed_by": writer.sub})
    return Order.model_validate(row)


@app.get("/orders/{order_id}")
async def read_order(order_id: UUID, caller: Caller) -> Order:
    own = {"id": order_id, "placed_by": caller.sub}
    found = await dominus.db.query("web_orders", filters=own, total=False, model=Order)
    if not found["rows"]:
        raise HTTPException(404, "no such order")
    return found["rows"][0]


@app.get("/orders")
async def list_orders(user: AsUser, cursor: str | None = None) -> dict[str, Any]:
    # The call carries the user's token: the orchestrator decides, and asks for the scope db:read.
    page = await user.db.page("web_orders", page_size=50, cursor=cursor)
    return {"orders": page["items"], "next": page["cursor"]}


@app.get("/tables/{table}")
async def describe_table(table: str, user: AsUser) -> list[str]:
    try:
        columns = await user.db.columns(table)
    except NotFoundError:
        raise HTTPException(404) from None
    return [column["column_name"] for column in columns]


# The same guards as decorators; the route's own decorator stands above.


@app.get("/me")
@dominus.fastapi.jwt
async def me(claims: dict[str, Any]) -> dict[str, Any]:
    return {"id": claims["sub"], "scopes": claims["scopes"]}


@app.get("/reports")
@dominus.fastapi.scopes(["reports:read", "orders:write"])
def reports(claims: dict[str, Any]) -> str:
    return f"reports for {claims['sub']}"


@app.post("/imports", status_code=202)
@dominus.fastapi.psk
async def import_orders(orders: list[NewOrder], client: dict[str, Any]) -> dict[str, int]:
    rows = [{**order.model_dump(), "placed_by": client["sub"]} for order in orders]
    await dominus.db.bulk_insert("web_orders", rows)
    return {"taken": len(rows)}
