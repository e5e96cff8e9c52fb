"""Postmark's HTTP API: one mail a request, already rendered."""

from __future__ import annotations

import math
from typing import Any

import httpx

from dominus.contract.mail_address import parse_addresses
from dominus.orchestrator.engines.mail.message import Mail
from dominus.orchestrator.engines.mail.relay import Delivery, plain

__all__ = ["PostmarkRelay"]

# Of the account, not of the mail: what an operator can put right, after which the mail goes out.
# 400 and 401: the sender's signature is missing or not confirmed; 405: no credits; 412 and 413: not approved yet.
_OF_THE_ACCOUNT = {10, 400, 401, 405, 412, 413}


class PostmarkRelay:
    """Hands mails to Postmark."""

    def __init__(self, token: str, *, url: str, stream: str, timeout: float) -> None:
        """Prepare; the first mail connects.

        Args:
            token: of the Postmark server.
            url: of the API.
            stream: the message stream's id.
            timeout: seconds for each step of a request.
        """
        self._token = token
        self._url = f"{url.rstrip('/')}/email"
        self._stream = stream
        self._timeout = timeout
        self._client: httpx.AsyncClient | None = None

    async def deliver(self, mail: Mail) -> Delivery:
        """Try once."""
        if self._client is None:
            # Less to connect: a try that ends before anything was sent must not look as if it had been.
            first = self._timeout * 0.75
            timeout = httpx.Timeout(self._timeout, connect=first, pool=first)
            self._client = httpx.AsyncClient(timeout=timeout, follow_redirects=False)
        headers = {"X-Postmark-Server-Token": self._token, "Accept": "application/json"}
        try:
            answer = await self._client.post(self._url, json=self._fields(mail), headers=headers)
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.UnsupportedProtocol,
        ) as error:
            return Delivery(error=f"not reached: {type(error).__name__}", is_away=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = f"lost before it said whether it took the mail: {type(error).__name__}"
            return Delivery(error=said, is_uncertain=True)
        return _read(mail, answer)

    async def rest(self) -> None:
        """Nothing: the pool closes idle connections by itself."""

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _fields(self, mail: Mail) -> dict[str, Any]:
        still_to_send = [str(one) for one in parse_addresses(mail.to) if one.address in mail.recipients]
        fields = {
            "From": mail.sender,
            "To": ", ".join(still_to_send),
            "Subject": mail.subject,
            "HtmlBody": mail.html,
            "TextBody": mail.text,
            "Tag": mail.tag,
            "ReplyTo": mail.reply_to,
            "MessageStream": self._stream,
            "Headers": [
                {"Name": "Message-ID", "Value": mail.header_id},
                {"Name": "X-PM-KeepID", "Value": "true"},
            ],
        }
        return {name: value for name, value in fields.items() if value is not None}


def _read(mail: Mail, answer: httpx.Response) -> Delivery:
    code, message = _error_of(answer)
    said = plain(
        f"{answer.status_code} code {code}: {message}" if code else f"{answer.status_code} {message}"
    )
    if answer.is_success and code == 0:
        return Delivery(accepted=mail.recipients)
    if answer.status_code in {401, 403, 404} or code in _OF_THE_ACCOUNT:
        return Delivery(error=said, is_away=True)
    if answer.status_code == 429:
        return Delivery(error=said, is_away=True, retry_after=_seconds(answer.headers.get("retry-after")))
    if answer.is_client_error and code:
        return Delivery(refused=dict.fromkeys(mail.recipients, said))
    if answer.is_success:
        # A success without the document of one: some other server, or a proxy, speaks.
        return Delivery(error="an answer that is not Postmark's", is_uncertain=True)
    return Delivery(error=said, is_away=not answer.is_server_error)


def _error_of(answer: httpx.Response) -> tuple[int | None, str]:
    try:
        document: Any = answer.json()
        return int(document["ErrorCode"]), str(document.get("Message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, "not Postmark's answer"


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
