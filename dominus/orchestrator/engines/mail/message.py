"""A mail as relays get it: the same bytes at each try, so that whoever gets it twice can tell."""

from __future__ import annotations

import base64
import datetime as dt
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime

from dominus.contract.mail_address import parse_address, parse_addresses

__all__ = ["Mail", "to_mime"]

# 7 bits, so that no relay has to be asked what it can take.
_POLICY = policy.SMTP.clone(cte_type="7bit")
MAX_PLAIN = 60
"""Characters of a header that are written as they are, on one line."""
ENCODED_BYTES = 42
"""Of an encoded word, which has at most 75 characters."""


@dataclass(frozen=True, slots=True)
class Mail:
    """What is sent."""

    message_id: str
    """A UUID, the same at each try."""
    sender: str
    to: str
    recipients: tuple[str, ...]
    """Of `to`, the addresses that no relay took yet."""
    subject: str
    html: str | None
    text: str | None
    tag: str | None
    reply_to: str | None
    submitted_at: dt.datetime

    @property
    def sender_address(self) -> str:
        """Where relays report to."""
        return parse_address(self.sender).address

    @property
    def header_id(self) -> str:
        """The `Message-ID` by which receivers know a second copy."""
        return f"<{self.message_id}@{parse_address(self.sender).domain}>"


def to_mime(mail: Mail) -> bytes:
    """Return the message with its headers."""
    headers = {
        "From": _people(mail.sender),
        "To": _people(mail.to),
        "Reply-To": None if mail.reply_to is None else _people(mail.reply_to),
        "Subject": _words(mail.subject),
        "Date": format_datetime(mail.submitted_at),
        "Message-ID": mail.header_id,
        "X-PM-Tag": None if mail.tag is None else _words(mail.tag),
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([*lines, ""]).encode("ascii") + _body(mail).as_bytes()


def _body(mail: Mail) -> EmailMessage:
    """Return what comes after our headers, its own included."""
    message = EmailMessage(policy=_POLICY)
    if mail.text is not None:
        message.set_content(mail.text)
    if mail.html is not None and mail.text is not None:
        message.add_alternative(mail.html, subtype="html")
        # Otherwise it is a random one at each try.
        message.set_boundary(f"=_{mail.message_id}")
    elif mail.html is not None:
        message.set_content(mail.html, subtype="html")
    return message


# The headers with texts of others are written here: EmailMessage takes them apart and puts them together again, which
# makes a line break of an encoded word a real one, and of some names another address.


def _people(text: str) -> str:
    return ",\r\n ".join(
        f"{_phrase(one.name)} <{one.address}>" if one.name else one.address for one in parse_addresses(text)
    )


def _phrase(name: str) -> str:
    if not _is_plain(name):
        return _encoded(name)
    escaped = name.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _words(text: str) -> str:
    return text if _is_plain(text) and text == text.strip() else _encoded(text)


def _is_plain(text: str) -> bool:
    return len(text) <= MAX_PLAIN and text.isascii() and text.isprintable() and "=?" not in text


def _encoded(text: str) -> str:
    """Write a text as encoded words (RFC 2047), a line each; none ends within a character."""
    parts: list[bytes] = [b""]
    for character in text:
        data = character.encode()
        if len(parts[-1]) + len(data) > ENCODED_BYTES:
            parts.append(b"")
        parts[-1] += data
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(part).decode()}?=" for part in parts)
