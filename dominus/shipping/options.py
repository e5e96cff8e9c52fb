"""What the client's settings say about its log lines."""

from __future__ import annotations

import hashlib

from dominus.settings import Settings
from dominus.shipping.redaction import Redactor
from dominus.shipping.shipper import ShippingOptions
from dominus.shipping.spool import Spool

__all__ = ["options_of"]


def options_of(settings: Settings) -> ShippingOptions:
    """Return buffer, spool and redaction. Without a server to send to, nothing is kept on disk."""
    token = settings.token.get_secret_value() if settings.token is not None else ""
    spool = None
    if settings.url and settings.log_spool_bytes:
        folder = settings.log_spool or settings.home / "spool"
        spool = Spool(folder.expanduser().absolute(), _tag(settings, token), settings.log_spool_bytes)
    return {
        "limit": settings.log_buffer,
        "spool": spool,
        "redactor": Redactor(settings.log_redact.split(","), (token,)),
    }


def _tag(settings: Settings, token: str) -> str:
    # Lines of another server, project or caller in the same folder must not be sent to this one.
    place = "\n".join([settings.url or "", settings.project or "", settings.environment or "", token])
    return hashlib.blake2b(place.encode(), digest_size=10, person=b"dominus-spool").hexdigest()
