"""One attempt on the wire: what an answer means, whoever carried it, and every failure sorted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from pydantic_core import from_json

from dominus.contract.codes import ALIVE
from dominus.contract.envelope import BYTES, REQUEST_ID_HEADER, WIRE_HEADER, Dialect, decode
from dominus.errors import DominusError, ServiceError, error_from_status
from dominus.transport.carriers.base import Carrier, Outgoing, Received
from dominus.transport.failure import Failure, parse_retry_after

__all__ = ["Answer", "Wire", "checked", "wrong_shape"]

_COLD_STATUSES = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer, decoded."""

    body: Any = field(repr=False)
    status: int
    speaks_json: bool
    """The server is one of ours: plain JSON, and it keeps idempotency keys."""
    request_id: str | None = None


@dataclass(slots=True)
class Wire:
    """Sends requests to one server through a carrier."""

    carrier: Carrier

    async def send(self, out: Outgoing) -> Answer:
        """Send once.

        Raises:
            Failure: it did not work; the typed error is inside.
        """
        return _judge(await self.carrier.carry(out), out)

    async def aclose(self) -> None:
        """Close the pool."""
        await self.carrier.aclose()


def _judge(received: Received, out: Outgoing) -> Answer:
    status, headers, body = received.status, received.headers, received.body
    endpoint, request_id = out.endpoint, headers.get(REQUEST_ID_HEADER)
    if 200 <= status < 300:
        if received.rest is not None:
            return Answer(received.rest, status, headers.get(WIRE_HEADER) == "json", request_id)
        is_bytes = out.is_raw and headers.get("content-type") == BYTES
        parsed = body if is_bytes else _parsed(body, endpoint, request_id)
        return Answer(parsed, status, headers.get(WIRE_HEADER) == "json", request_id)
    if 300 <= status < 400:
        raise Failure(
            ServiceError(
                f"the server redirects to {headers.get('location') or 'nowhere'!r}",
                code="redirect",
                status_code=status,
                endpoint=endpoint,
                retryable=False,
                hint="set DOMINUS_URL to the final address",
            ),
            is_final=True,
        )
    error = _error(status, body, endpoint, request_id, parse_retry_after(headers.get("retry-after")))
    # One of ours that answers is awake, whatever it says.
    is_awake = headers.get(WIRE_HEADER) == "json"
    waits = status == 401 and error.retry_after is not None
    raise Failure(
        error,
        is_system=status >= 500 and error.code not in ALIVE,
        is_cold_sign=not is_awake and (status in _COLD_STATUSES or waits),
    )


def _parsed(body: bytes, endpoint: str, request_id: str | None) -> Any:
    try:
        return _document(body)
    except ValueError:
        is_page = body.lstrip()[:1] == b"<"
        raise Failure(
            ServiceError(
                "the answer is a web page, not a Dominus answer"
                if is_page
                else "the answer is cut off, or neither JSON nor base64",
                code="not_dominus" if is_page else "broken_answer",
                status_code=502,
                endpoint=endpoint,
                request_id=request_id,
                retryable=not is_page,
                hint="does DOMINUS_URL point at a Dominus server?" if is_page else None,
            ),
            is_final=is_page,
        ) from None


def _document(body: bytes) -> Any:
    # Only the first byte tells the dialects apart for certain: proxies rewrite content types.
    if not body:
        raise ValueError("empty")
    if body[:1] in b"{[ \n":
        return from_json(body)
    return decode(body.strip(), Dialect.BASE64)


def _error(
    status: int, body: bytes, endpoint: str, request_id: str | None, retry_after: float | None
) -> DominusError:
    try:
        found = _document(body)
    except ValueError:
        found = None
    facts = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    if status in {404, 405} and _is_foreign(body, facts):
        # Other web servers say so of routes they do not have; it must not look like a missing row or secret.
        return ServiceError(
            "the answer is a web page or another program's, not a Dominus answer",
            code="not_dominus",
            status_code=status,
            endpoint=endpoint,
            retryable=False,
            hint="does DOMINUS_URL point at a Dominus server?",
        )
    message = next((facts[key] for key in ("error", "detail", "message") if facts.get(key)), None)
    return error_from_status(
        status,
        message if isinstance(message, str) else f"the server answered {status}",
        code=facts["code"] if isinstance(facts.get("code"), str) else None,
        details=facts.get("details"),
        hint=facts["hint"] if isinstance(facts.get("hint"), str) else None,
        endpoint=endpoint,
        request_id=request_id or facts.get("request_id"),
        retry_after=retry_after,
    )


def _is_foreign(body: bytes, facts: dict[str, Any]) -> bool:
    start = body.lstrip()[:1]
    is_plain_detail = start == b"{" and facts.keys() == {"detail"}
    return start == b"<" or is_plain_detail or body.strip() in {b"Not Found", b"Method Not Allowed"}


def checked(
    body: Any,
    required: frozenset[str],
    list_key: str | None,
    endpoint: str,
    *,
    is_plain: bool,
    is_list: bool = False,
) -> Any:
    """Open the envelope and return `data`.

    Raises:
        ServiceError: it is not an answer of this operation.
        DominusError: it says `success: false`.
    """
    if not isinstance(body, dict):
        raise wrong_shape(endpoint, "no object")
    envelope = cast("dict[str, Any]", body)
    if is_plain and "success" not in envelope:
        data: Any = envelope
    elif envelope.get("success"):
        data = envelope.get("data", {})
    elif "success" in envelope:
        raise ServiceError(str(envelope.get("error") or "the server reports a failure"), endpoint=endpoint)
    else:
        raise wrong_shape(endpoint, "no `success`")
    if is_list:
        if not isinstance(data, list):
            raise wrong_shape(endpoint, "`data` is no list")
        return cast("list[Any]", data)
    if list_key is not None and isinstance(data, list):
        data = {list_key: cast("list[Any]", data)}
    if not isinstance(data, dict):
        raise wrong_shape(endpoint, "`data` is no object")
    if missing := required - cast("dict[str, Any]", data).keys():
        raise wrong_shape(endpoint, f"`data` has no {', '.join(sorted(missing))}")
    return cast("dict[str, Any]", data)


def wrong_shape(endpoint: str, what: str) -> ServiceError:
    """Return the error for an answer that is none of this operation."""
    return ServiceError(
        f"the answer has the wrong shape: {what}",
        code="not_dominus",
        status_code=502,
        endpoint=endpoint,
        retryable=False,
        hint="does DOMINUS_URL point at a Dominus server of this version?",
    )
