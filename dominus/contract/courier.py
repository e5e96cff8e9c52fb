"""courier: mails from templates, in an outbox that loses none."""
# Over 350 lines of data: a request, an answer and an operation for each call.

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from typing_extensions import TypedDict

from dominus.contract.mail_address import header_text, parse_address, parse_addresses
from dominus.contract.operation import Service
from dominus.contract.request import Empty, Example, Omit, Request

MAX_ALIAS = 128
MAX_SUBJECT = 1000
MAX_TEMPLATE = 256 * 1024
"""Characters of the HTML, or of the text, of a template."""
MAX_PAGE = 500
MAX_RETRIES = 100

Alias = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_ALIAS, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
]
Status = Literal["queued", "sending", "uncertain", "sent", "dead", "kept"]
MessageId = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$", to_lower=True),
]
Version = Annotated[int, Field(ge=0, le=2**31 - 1)]


def _joined(value: object) -> object:
    # `to` may be a list: on the wire it is the text that the published client sends.
    if not isinstance(value, (list, tuple)):
        return value
    items = cast("list[object]", value)
    texts = [item for item in items if isinstance(item, str)]
    return ", ".join(str(parse_address(text)) for text in texts) if len(texts) == len(items) else items


def _addresses(value: str) -> str:
    return ", ".join(map(str, parse_addresses(value)))


def _address(value: str) -> str:
    return str(parse_address(value))


_AddressText = StringConstraints(min_length=1, max_length=20_000)
Recipients = Annotated[str, BeforeValidator(_joined), _AddressText, AfterValidator(_addresses)]
"""One address or several, with commas; 50 at most."""
Address = Annotated[str, _AddressText, AfterValidator(_address)]
HeaderText = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(header_text)]
Subject = Annotated[str, StringConstraints(min_length=1, max_length=MAX_SUBJECT), AfterValidator(header_text)]
Body = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEMPLATE)]
Model = dict[str, Any]


class Submitted(TypedDict):
    """An accepted mail: it is in the outbox, and on its way from there."""

    to: str
    message_id: str
    submitted_at: str


class OutboxMail(TypedDict):
    """A mail of the outbox.

    `sending` says since when in `sending_since`. `may_be_duplicate`: a try ended without an answer of the relay, and
    another one followed. `refused` holds what the relay said for good, by recipient.
    """

    message_id: str
    to: str
    template_alias: str
    template_version: int
    model: dict[str, Any]
    subject: str
    status: Status
    tag: str | None
    reply_to: str | None
    attempts: int
    may_be_duplicate: bool
    error: str | None
    refused: dict[str, str]
    submitted_at: str
    next_attempt_at: str | None
    sending_since: str | None
    finished_at: str | None


# The wire calls it `from`, which no class body can.
_From = TypedDict("_From", {"from": str})


class OutboxItem(OutboxMail, _From):
    """A mail as the outbox lists it, `from` included."""


class OutboxMessage(OutboxItem):
    """A mail with what it says, as it was rendered when it was accepted."""

    html: str | None
    text: str | None


class OutboxPage(TypedDict):
    """Mails, the newest first; `cursor` continues, None at the end."""

    items: list[OutboxItem]
    cursor: str | None


class Retried(TypedDict):
    """How many mails were queued again."""

    retried: int


class TemplateInfo(TypedDict):
    """What is known of a template, or of one of its versions. Version 0 is the one that comes built in."""

    alias: str
    version: int
    subject: str
    comment: str | None
    created_at: str | None
    created_by: str | None


class Template(TemplateInfo):
    """A template with its parts."""

    html: str | None
    text: str | None


class TemplateList(TypedDict):
    """Templates by alias; versions newest first."""

    templates: list[TemplateInfo]


class TemplateStored(TypedDict):
    """The version that a template has now."""

    alias: str
    version: int


class TemplateDeleted(TypedDict):
    """`deleted` is true when there was one of your own; a built-in one is then used again."""

    alias: str
    deleted: bool


class Preview(TypedDict):
    """What a mail would say."""

    subject: str
    html: str | None
    text: str | None


class SendRequest(Request):
    """Accept a mail. The same `idempotency_key` again is the same mail, for as long as the outbox keeps it."""

    example: ClassVar[Example] = {
        "template_alias": "welcome",
        "to": "Ada Lovelace <ada@example.com>",
        "from": "hello@example.org",
        "model": {"name": "Ada", "product_name": "Difference Engine"},
        "tag": "welcome",
    }

    template_alias: Alias
    to: Recipients
    from_email: Annotated[Address, Field(alias="from", title="from_email")]
    model: Model
    tag: Omit[HeaderText]
    reply_to: Omit[Recipients]
    idempotency_key: Omit[HeaderText]


class OutboxRequest(Request):
    """Name a page of the outbox."""

    example: ClassVar[Example] = {"limit": 10}

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100
    status: Omit[Status]
    to: Omit[Address]
    tag: Omit[HeaderText]
    template_alias: Omit[Alias]
    cursor: Omit[Annotated[str, StringConstraints(max_length=256)]]


class MessageRequest(Request):
    """Name a mail."""

    example: ClassVar[Example] = {"message_id": "00000000-0000-4000-8000-000000000000"}

    message_id: MessageId


class RetryRequest(Request):
    """Name mails to send again, or all that are dead."""

    example: ClassVar[Example] = {"all_dead": True}

    message_ids: Omit[Annotated[list[MessageId], Field(min_length=1, max_length=MAX_RETRIES)]]
    all_dead: Omit[bool]

    @model_validator(mode="after")
    def _one_of_them(self) -> RetryRequest:
        if (self.message_ids is not None) == bool(self.all_dead):
            raise ValueError("give message_ids, or all_dead=True")
        return self


class TemplateRequest(Request):
    """Name a template, by default in its newest version."""

    example: ClassVar[Example] = {"alias": "receipt"}

    alias: Alias
    version: Omit[Version]


class AliasRequest(Request):
    """Name a template."""

    example: ClassVar[Example] = {"alias": "receipt"}

    alias: Alias


class PutTemplateRequest(AliasRequest):
    """Store a new version of a template; `html`, `text` or both."""

    example: ClassVar[Example] = {
        "alias": "receipt",
        "subject": "Your receipt {{number}}",
        "html": "<p>{{name}}, you paid {{total}}.</p>",
        "text": "{{name}}, you paid {{total}}.",
        "comment": "shorter",
    }

    subject: Subject
    html: Omit[Body]
    text: Omit[Body]
    comment: Omit[Annotated[str, StringConstraints(max_length=1000)]]

    @model_validator(mode="after")
    def _says_something(self) -> PutTemplateRequest:
        if self.html is None and self.text is None:
            raise ValueError("html or text is missing")
        return self


class PreviewRequest(Request):
    """Render a template without sending anything: a stored one, or one in hand."""

    example: ClassVar[Example] = {
        "subject": "Your receipt {{number}}",
        "text": "{{name}}, you paid {{total}}.",
        "model": {"number": 7, "name": "Ada", "total": "3.50"},
    }

    model: Model
    template_alias: Omit[Alias]
    version: Omit[Version]
    subject: Omit[Subject]
    html: Omit[Body]
    text: Omit[Body]

    @model_validator(mode="after")
    def _one_of_them(self) -> PreviewRequest:
        if (self.template_alias is None) == (self.subject is None):
            raise ValueError("give template_alias, or subject with html or text")
        if self.template_alias is None and self.html is None and self.text is None:
            raise ValueError("html or text is missing")
        if self.template_alias is not None and (self.html or self.text):
            raise ValueError("html and text are those of template_alias")
        return self


RENDERING = (
    "template_not_found",
    "model_key_missing",
    "invalid_model",
    "invalid_template",
    "invalid_subject",
)

courier = Service("courier", "/api/courier")
SEND = courier.write(
    "send",
    SendRequest,
    Submitted,
    "Accept a mail, made from a template, and send it from the outbox.",
    errors=(*RENDERING, "sender_not_allowed", "mail_key_reused", "invalid_text"),
)
OUTBOX = courier.read(
    "outbox",
    OutboxRequest,
    OutboxPage,
    "List mails, the newest first.",
    method="GET",
    errors=("invalid_cursor",),
)
MESSAGE = courier.read(
    "message",
    MessageRequest,
    OutboxMessage,
    "Read a mail with what it says.",
    path="outbox/{message_id}",
    method="GET",
    errors=("message_not_found",),
)
RETRY = courier.write(
    "retry",
    RetryRequest,
    Retried,
    "Queue dead or kept mails again.",
    scope="courier:admin",
    errors=("message_not_found", "wrong_state", "no_relay"),
)
LIST_TEMPLATES = courier.read(
    "list_templates",
    Empty,
    TemplateList,
    "List templates, the built-in ones included, without their parts.",
    path="templates",
    method="GET",
    list_key="templates",
)
GET_TEMPLATE = courier.read(
    "get_template",
    TemplateRequest,
    Template,
    "Read a template.",
    path="templates/{alias}",
    method="GET",
    errors=("template_not_found",),
)
PUT_TEMPLATE = courier.write(
    "put_template",
    PutTemplateRequest,
    TemplateStored,
    "Store a new version of a template.",
    path="templates/{alias}",
    method="PUT",
    scope="courier:admin",
    errors=("invalid_template", "invalid_text"),
)
TEMPLATE_VERSIONS = courier.read(
    "template_versions",
    AliasRequest,
    TemplateList,
    "List the versions of a template, newest first, without their parts.",
    path="templates/{alias}/versions",
    method="GET",
    list_key="templates",
    errors=("template_not_found",),
)
DELETE_TEMPLATE = courier.write(
    "delete_template",
    AliasRequest,
    TemplateDeleted,
    "Delete a template of your own with all its versions.",
    path="templates/{alias}",
    method="DELETE",
    scope="courier:admin",
)
PREVIEW = courier.read(
    "preview",
    PreviewRequest,
    Preview,
    "Render a template without sending anything.",
    errors=RENDERING,
)
