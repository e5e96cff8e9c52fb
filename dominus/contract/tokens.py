"""What both sides ask of a token (a JWT, RFC 7519) before its signature and its claims count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ISSUER", "KEY_HEADERS", "LEEWAY_SECONDS", "MAX_TOKEN_LENGTH", "USES", "header_fault"]

ISSUER = "dominus"
USES = frozenset({"service", "user"})
"""What a token without an audience is for; others are for the gateway alone."""
MAX_TOKEN_LENGTH = 8192
"""Characters. Proxies allow headers of 8 to 16 kB."""
LEEWAY_SECONDS = 30
"""How far clocks may be apart."""
KEY_HEADERS = frozenset({"jku", "jwk", "x5c", "x5u"})
"""Headers by which a token would bring its own key, or say where to fetch it (RFC 7515, 4.1)."""


def header_fault(header: Mapping[str, Any]) -> str | None:
    """Return why a token is refused for its header alone, or None."""
    if header.get("alg") != "RS256":
        return "it is not signed with RS256"
    if not KEY_HEADERS.isdisjoint(header):
        return "its header brings a key of its own"
    return None
