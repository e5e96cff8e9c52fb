"""The database as other programs reach it, with a login of their own."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from dominus.errors import ValidationError

__all__ = ["PublicDsn"]

_KEPT = frozenset({"host", "port", "sslmode", "channel_binding", "target_session_attrs"})
"""Of the owner's URL. The rest is how the orchestrator itself logs in, or a file of its machine."""


class PublicDsn:
    """Writes DSNs for logins; holds no password."""

    def __init__(self, owners: str, address: str | None) -> None:
        """Take what everyone may know out of the owner's DSN.

        Args:
            owners: the DSN of the orchestrator's own user.
            address: `host` or `host:port` in place of its own.

        Raises:
            ValidationError: `address` is neither.
        """
        parts = urlsplit(owners)
        self._place = parts.netloc.rpartition("@")[2]
        options = [(name, value) for name, value in parse_qsl(parts.query) if name in _KEPT]
        if address is not None:
            try:
                given = urlsplit(f"//{address}")
                is_right = given.netloc == address and bool(given.hostname) and given.port != 0
            except ValueError:
                is_right = False
            if not is_right or "@" in address:
                raise ValidationError(f"DOMINUS_OPEN_ADDRESS: {address!r} is not host:port", code="settings")
            self._place = address
            options = [(name, value) for name, value in options if name not in {"host", "port"}]
        self._query = f"?{urlencode(options, safe='/')}" if options else ""

    def __call__(self, username: str, password: str, database: str) -> str:
        """Return the DSN of a login."""
        login = f"{quote(username, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@{self._place}/{quote(database, safe='')}{self._query}"
