"""Who calls a web service, as a verified token says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

__all__ = ["Principal"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: what the verified token says, typed."""

    sub: str
    """The id of the user, client or service."""
    use: str = "user"
    """`user`, or `service` for a program that calls with the token of a PSK."""
    scopes: frozenset[str] = frozenset()
    """The rights; `*` is all of them."""
    roles: frozenset[str] = frozenset()
    tenant_id: str | None = None
    """The active tenant."""
    session_id: str | None = None
    """The session that the token belongs to, if its owner logged in."""
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)
    """All that the token says."""

    def may(self, *scopes: str, any: bool = False) -> bool:
        """Return whether all of these scopes are there, or with `any` one of them."""
        if "*" in self.scopes:
            return True
        found = self.scopes.intersection(scopes)
        return bool(found) if any else len(found) == len(set(scopes))

    @classmethod
    def of(cls, claims: Mapping[str, Any]) -> Principal:
        """Read the claims of a verified token; what has another type than it should counts as absent."""
        return cls(
            sub=str(claims["sub"]),
            use=_text(claims.get("use")) or "user",
            scopes=_texts(claims.get("scopes")),
            roles=_texts(claims.get("roles")),
            tenant_id=_text(claims.get("tenant_id")),
            session_id=_text(claims.get("sid")),
            claims=claims,
        )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> frozenset[str]:
    if not isinstance(value, list):
        return frozenset()
    return frozenset(each for each in cast("list[object]", value) if isinstance(each, str))
