"""Mails as bytes: headers that hold texts of others stay single headers, and come out as they went in."""

from __future__ import annotations

import datetime as dt
import email
import email.policy
import random
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any, cast

import pytest

from dominus.contract.mail_address import MailAddress, header_text, parse_addresses
from dominus.errors import ValidationError
from dominus.orchestrator.engines.mail.builtin import Parts
from dominus.orchestrator.engines.mail.message import Mail, to_mime
from dominus.orchestrator.services.courier.templates import rendered

SENT = {"from", "to", "reply-to", "subject", "date", "message-id", "x-pm-tag", "mime-version", "content-type"}
ENCODED = [
    "=?utf-8?q?x=0D=0ABcc:_eve@example.com?=",
    "=?UTF-8?B?eA0KQmNjOiBldmVAZXhhbXBsZS5jb20=?=",
    "=?utf-7?q?+AA0ACg-Bcc:eve?=",
    "a =?utf-8*en?q?=0A?= b",
]


def mail(**changed: Any) -> Mail:
    fields: dict[str, Any] = {
        "message_id": "00000000-0000-4000-8000-000000000000",
        "sender": "h@example.org",
        "to": "a@example.com",
        "recipients": ("a@example.com",),
        "subject": "s",
        "html": "<p>ü</p>",
        "text": "ü",
        "tag": None,
        "reply_to": None,
        "submitted_at": dt.datetime.now(dt.UTC),
        **changed,
    }
    return Mail(**fields)


def read(made: Mail) -> EmailMessage:
    """Check the bytes, and return what a receiver makes of them."""
    data = to_mime(made)
    head = data.partition(b"\r\n\r\n")[0]
    names = [
        line.partition(b":")[0].decode().lower() for line in head.split(b"\r\n") if not line[:1].isspace()
    ]
    assert len(set(names)) == len(names)
    assert set(names) <= SENT
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert max(map(len, data.split(b"\r\n"))) <= 998
    return cast("EmailMessage", email.message_from_bytes(data, policy=email.policy.default))


@pytest.mark.parametrize("evil", ENCODED)
def test_an_encoded_word_is_refused_and_if_it_were_not_it_would_begin_no_header(evil: str) -> None:
    with pytest.raises(ValueError, match="encoded words"):
        header_text(evil)
    with pytest.raises(ValueError, match="encoded words"):
        parse_addresses(f'"{evil}" <a@example.com>')
    with pytest.raises(ValidationError) as caught:
        rendered(Parts("Hello {{name}}", None, "x"), {"name": evil})
    assert caught.value.code == "invalid_subject"
    got = read(mail(subject=evil, tag=evil))
    assert got["Bcc"] is None


@pytest.mark.parametrize(
    "line_break", ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\0"]
)
def test_no_line_break_gets_into_any_header(line_break: str) -> None:
    evil = f"x{line_break}Bcc: eve@example.com"
    for text in (f'"{evil}" <a@b.c>', f"{evil} <a@b.c>", f"a@b.c{line_break}", f"a@b.c,{line_break} c@d.e"):
        with pytest.raises(ValueError):
            parse_addresses(text)
    with pytest.raises(ValueError):
        header_text(evil)
    with pytest.raises(ValidationError):
        rendered(Parts("{{name}}", None, "x"), {"name": evil})


def first_name(data: bytes) -> str:
    # email.policy.default puts spaces between the encoded words of a name.
    raw = email.message_from_bytes(data)["To"]
    return str(make_header(decode_header(getaddresses([raw.replace("\r\n", "")])[0][0])))


def test_names_and_subjects_come_out_as_they_went_in() -> None:
    chance = random.Random(5)
    alphabet = "aB1 \",<>\\@.;:()[]=?_'ü中😀\u200b\u202e#|`~"
    made = 0
    for _ in range(400):
        name = "".join(chance.choice(alphabet) for _ in range(chance.choice([1, 3, 10, 40, 120]))).strip()
        subject = "".join(chance.choice(alphabet) for _ in range(chance.choice([1, 10, 80, 300])))
        try:
            people = f"{MailAddress('a@example.com', header_text(name))}, b@example.com"
            header_text(subject)
        except ValueError:
            continue
        made += 1
        got = read(
            mail(to=people, sender=str(MailAddress("h@example.org", name)), reply_to=people, subject=subject)
        )
        assert [one.addr_spec for one in got["To"].addresses] == ["a@example.com", "b@example.com"]
        assert first_name(to_mime(mail(to=people))) == name
        assert got["Reply-To"].addresses[1].addr_spec == "b@example.com"
        assert got["Subject"] == subject
    assert made > 300


def test_the_same_mail_is_the_same_bytes_and_both_parts_are_read() -> None:
    one = mail(subject="x" * 1000, tag="t" * 256)
    assert to_mime(one) == to_mime(one)
    got = read(one)
    assert [part.get_content().strip() for part in cast("Any", got.iter_parts())] == ["ü", "<p>ü</p>"]
    assert got["Subject"] == "x" * 1000
