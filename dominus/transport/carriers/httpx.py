"""Any httpx transport as a carrier."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx

from dominus.contract.envelope import JSON_LINES
from dominus.settings import Settings
from dominus.transport.carriers.base import (
    MAX_KNOWN_URLS,
    USER_AGENT,
    OpenAnswer,
    Outgoing,
    Received,
    bounded,
)
from dominus.transport.carriers.failures import NETWORK_ERRORS, failure_of, read_on

__all__ = ["HttpxCarrier"]


@dataclass(slots=True)
class HttpxCarrier:
    """Any `httpx.AsyncBaseTransport`, called directly: respx and MockTransport, the embedded app, special networks."""

    base_url: str
    transport: httpx.AsyncBaseTransport
    settings: Settings
    _urls: dict[str, httpx.URL] = field(default_factory=dict[str, httpx.URL])

    async def carry(self, out: Outgoing) -> Received:
        """Send once."""
        timeout = {"connect": self.settings.connect_timeout, "read": None, "write": None, "pool": None}
        try:
            url = self._urls.get(out.path)
            if url is None:
                url = httpx.URL(self.base_url + out.path)
                if len(self._urls) < MAX_KNOWN_URLS:
                    self._urls[out.path] = url
            request = httpx.Request(
                out.method,
                url,
                headers={"user-agent": USER_AGENT, **out.headers},
                content=out.content,
                extensions={"timeout": timeout},
            )
            response = await self.transport.handle_async_request(request)
            if not isinstance(response.stream, httpx.AsyncByteStream):
                raise TypeError("the transport's answer has no asynchronous stream")
            if out.is_lines and response.headers.get("content-type") == JSON_LINES:
                rest = OpenAnswer(read_on(aiter(response.stream), out.endpoint), response.aclose)
                return Received(response.status_code, response.headers, b"", rest)
            try:
                body = await bounded(aiter(response.stream), self.settings.max_response_bytes, out.endpoint)
            finally:
                await response.aclose()
        except NETWORK_ERRORS as error:
            raise failure_of(error, out.endpoint) from error
        return Received(response.status_code, response.headers, body)

    def abandon(self) -> None:
        """Leave the transport to whoever made it."""

    async def aclose(self) -> None:
        """Close the transport."""
        await self.transport.aclose()
