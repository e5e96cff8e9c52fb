"""A web service on Dominus. Set DOMINUS_URL and DOMINUS_TOKEN, then: uvicorn fastapi_app:app"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from dominus import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    Dominus,
    DominusError,
    NotFoundError,
    ValidationError,
    dominus,
)


class NewOrder(BaseModel):
    customer: str
    total: Decimal


class Order(NewOrder):
    id: UUID
    status: str


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
            ],
        )
    yield
    await dominus.aclose()


app = FastAPI(lifespan=lifespan)


async def caller(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> AsyncIterator[Dominus]:
    """A client that sends the token of whoever calls; the orchestrator decides what it may do."""
    try:
        yield dominus.as_user(credentials.credentials)
    except (AuthenticationError, AuthorizationError) as error:
        raise HTTPException(error.status_code or 401, error.message) from error


@app.post("/orders", status_code=201)
async def place_order(order: NewOrder) -> Order:
    try:
        row = await dominus.db.insert("web_orders", order)
    except ValidationError as error:
        raise HTTPException(422, error.message) from error
    return Order.model_validate(row)


@app.get("/orders/{order_id}")
async def read_order(order_id: UUID) -> Order:
    found = await dominus.db.query("web_orders", filters={"id": order_id}, total=False, model=Order)
    if not found["rows"]:
        raise HTTPException(404, "no such order")
    return found["rows"][0]


@app.get("/orders")
async def list_orders(user: Annotated[Dominus, Depends(caller)], cursor: str | None = None) -> dict[str, Any]:
    try:
        page = await user.db.page("web_orders", page_size=50, cursor=cursor)
    except ValidationError as error:
        raise HTTPException(400, error.message) from error
    return {"orders": page["items"], "next": page["cursor"]}


@app.get("/tables/{table}")
async def describe_table(table: str, user: Annotated[Dominus, Depends(caller)]) -> list[str]:
    try:
        columns = await user.db.columns(table)
    except NotFoundError:
        raise HTTPException(404) from None
    return [column["column_name"] for column in columns]


@app.exception_handler(DominusError)
async def dominus_failed(_request: Request, error: Exception) -> JSONResponse:
    """Answer for what no route caught: it is our fault or the orchestrator's, not the caller's."""
    if not isinstance(error, DominusError) or not error.retryable:
        return JSONResponse({"detail": "internal error"}, 500)
    wait = max(1, round(error.retry_after or 1))
    return JSONResponse({"detail": "try again later"}, 503, {"Retry-After": str(wait)})
