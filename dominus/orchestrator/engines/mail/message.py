"""A mail as relays get it: the same bytes at each try, so that whoever gets it twice can tell."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

from dominus.contract.mail_address import MailAddress, parse_address, parse_addresses

__all__ = ["Mail", "to_mime"]

# 7 bits, so that no relay has to be asked what it can take.
_POLICY = policy.SMTP.clone(cte_type="7bit")


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
    message = EmailMessage(policy=_POLICY)
    message["From"] = _header(parse_address(mail.sender))
    message["To"] = [_header(one) for one in parse_addresses(mail.to)]
    if mail.reply_to is not None:
        message["Reply-To"] = [_header(one) for one in parse_addresses(mail.reply_to)]
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(mail.submitted_at)
    message["Message-ID"] = mail.header_id
    if mail.tag is not None:
        message["X-PM-Tag"] = mail.tag
    if mail.text is not None:
        message.set_content(mail.text)
    if mail.html is not None and mail.text is not None:
        message.add_alternative(mail.html, subtype="html")
        # Otherwise it is a random one at each try.
        message.set_boundary(f"=_{mail.message_id}")
    elif mail.html is not None:
        message.set_content(mail.html, subtype="html")
    return message.as_bytes()


def _header(one: MailAddress) -> Address:
    return Address(one.name, addr_spec=one.address)
