"""Addresses of mails, as a person writes them: `ada@example.com`, `Ada Lovelace <ada@example.com>`, commas between.

Stricter than RFC 5322 where it is odd (comments, routes, quoted local parts), so that what passes here is understood
the same by every relay, and can carry no second header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["MAX_RECIPIENTS", "MailAddress", "header_text", "parse_address", "parse_addresses"]

MAX_RECIPIENTS = 50
"""Of one mail, as Postmark has it."""
MAX_ADDRESS = 254
MAX_LOCAL_PART = 64
MAX_NAME = 200

# C0 and C1 controls, and what Unicode counts as the end of a line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# RFC 2047: libraries decode it wherever it stands in a header, line breaks included.
_ENCODED_WORD = re.compile(r"=\?[^?\s]*\?[bq]\?", re.IGNORECASE)
_NAMED = re.compile(r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)" *|(?P<plain>[^"<>]*))<(?P<address>[^<>]*)>')
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class MailAddress:
    """One address and the name beside it."""

    address: str
    """`local@domain` in ASCII: an international domain in its xn-- form."""
    name: str = ""

    @property
    def domain(self) -> str:
        """What is right of the @, in lower case."""
        return self.address.rpartition("@")[2].lower()

    def __str__(self) -> str:
        if not self.name:
            return self.address
        if re.fullmatch(r"[\w !#$%&'*+/=?^`{|}~-]+", self.name):
            return f"{self.name} <{self.address}>"
        escaped = self.name.replace("\\", r"\\").replace('"', r"\"")
        return f'"{escaped}" <{self.address}>'


def header_text(value: str) -> str:
    """Refuse what would end a header and begin another one."""
    if _CONTROL.search(value):
        raise ValueError("must not contain line breaks or other control characters")
    if _ENCODED_WORD.search(value):
        raise ValueError("must not contain encoded words (=?...?=): write the characters themselves")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("is not valid Unicode")
    return value


def parse_address(text: str) -> MailAddress:
    """Return the one address of a text.

    Raises:
        ValueError: it is none, or several.
    """
    found = parse_addresses(text)
    if len(found) != 1:
        raise ValueError("must be one address")
    return found[0]


def parse_addresses(text: str) -> list[MailAddress]:
    """Return the addresses of a text, in their order, each once.

    Raises:
        ValueError: there is none, or too many, or one has the wrong form.
    """
    header_text(text)
    found = {one.address: one for one in map(_one, filter(None, _parts(text)))}
    if not found:
        raise ValueError("names no address")
    if len(found) > MAX_RECIPIENTS:
        raise ValueError(f"names {len(found)} addresses, a mail has at most {MAX_RECIPIENTS}")
    return list(found.values())


def _parts(text: str) -> list[str]:
    """Split at the commas that are in no quotation marks."""
    parts, start = list[str](), 0
    is_quoted = is_escaped = False
    for position, character in enumerate(text):
        if is_escaped:
            is_escaped = False
        elif character == "\\":
            is_escaped = is_quoted
        elif character == '"':
            is_quoted = not is_quoted
        elif character == "," and not is_quoted:
            parts.append(text[start:position].strip())
            start = position + 1
    if is_quoted:
        raise ValueError("has a quotation mark that is not closed")
    return [*parts, text[start:].strip()]


def _one(text: str) -> MailAddress:
    named = _NAMED.fullmatch(text)
    if named is None:
        return MailAddress(_checked(text))
    quoted: str | None = named["quoted"]
    name = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else named["plain"]
    if len(name) > MAX_NAME:
        raise ValueError(f"has a name of more than {MAX_NAME} characters")
    return MailAddress(_checked(named["address"].strip()), name.strip())


def _checked(address: str) -> str:
    local, sign, domain = address.rpartition("@")
    if not sign or not _LOCAL.fullmatch(local) or len(local) > MAX_LOCAL_PART:
        raise ValueError(f"{address[:80]!r} is not an address such as ada@example.com")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"{domain[:80]!r} is not a domain") from None
    if not all(_LABEL.fullmatch(label) for label in domain.split(".")):
        raise ValueError(f"{domain[:80]!r} is not a domain")
    whole = f"{local}@{domain}"
    if len(whole) > MAX_ADDRESS:
        raise ValueError(f"is longer than {MAX_ADDRESS} characters")
    return whole
