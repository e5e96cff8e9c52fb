"""portal: users and clients who log in, their sessions, profiles and the navigation that they see."""
# Over 350 lines of data: a request, an answer and an operation for each call.

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NotRequired

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from typing_extensions import TypedDict

from dominus.contract.guardian.accounts import Email, Password, PasswordHash
from dominus.contract.guardian.entities import PagePath, Status
from dominus.contract.guardian.records import EXAMPLE_ID, Id
from dominus.contract.kinds import Retry
from dominus.contract.operation import Service
from dominus.contract.request import Empty, Example, Omit, Request, plain_text

MAX_EXTRA_BYTES = 16 * 1024
"""Of the JSON of `extra`, of a profile or of preferences."""
MAX_ROLES = 100
"""Of an invitation."""
SubjectType = Literal["user", "client"]
Theme = Literal["light", "dark", "system"]
AccessReason = Literal["allowed", "unknown_page", "missing_scope", "excluded"]


LoginName = Annotated[str, StringConstraints(min_length=1, max_length=320), AfterValidator(plain_text)]
"""A username or an address."""
NewUsername = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^@\s]+$"), AfterValidator(plain_text)
]
"""Of who registers: never what could be another's address."""
TenantName = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(plain_text)]
"""An id or a slug."""
Credential = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(plain_text)]
"""A PSK, a refresh token, or what a link of a mail carries."""
Text = Annotated[str, StringConstraints(max_length=200), AfterValidator(plain_text)]
Url = Annotated[str, StringConstraints(max_length=2000, pattern=r"^(https?://[!-~]+)?$")]
Prose = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]


class UserInfo(TypedDict):
    """A user, as it sees itself. `email_verified`: it showed that the address is its own."""

    id: str
    username: str
    email: str
    status: Status
    email_verified: bool


class ClientInfo(TypedDict):
    """A client, as it sees itself."""

    id: str
    label: str
    status: Status


class TenantInfo(TypedDict):
    """A tenant that a user or client belongs to."""

    id: str
    slug: str
    name: str
    display_name: str | None


class _Session(TypedDict):
    access_token: str
    token_type: str
    expires_in: int
    session_id: str
    subject_type: SubjectType
    tenant: TenantInfo | None
    tenants: list[TenantInfo]


class Login(_Session):
    """A user's session, and the token that speaks for it for `expires_in` seconds. `tenant` is the active one.

    `refresh_token` is good for one `refresh`, which gives the next one.
    """

    refresh_token: str
    user: UserInfo


class ClientLogin(_Session):
    """The same of a client."""

    refresh_token: str
    client: ClientInfo


class Refreshed(_Session):
    """A session that goes on, of a user or a client. There is a `refresh_token` if one was sent."""

    refresh_token: NotRequired[str]
    user: NotRequired[UserInfo]
    client: NotRequired[ClientInfo]


class LoggedOut(TypedDict):
    """The session is over."""

    logged_out: bool


class Me(TypedDict):
    """Who calls, and what it may do in its active tenant. `subject` is the id, or the name of a service."""

    subject_type: Literal["user", "client", "service"]
    subject: str
    user: NotRequired[UserInfo]
    client: NotRequired[ClientInfo]
    session_id: str | None
    tenant: TenantInfo | None
    tenants: list[TenantInfo]
    scopes: list[str]
    roles: list[str]


class Done(TypedDict):
    """It was done; where nobody shall learn whether there is such a user, it is said all the same."""

    success: bool


class SessionInfo(TypedDict):
    """A session that is open."""

    session_id: str
    tenant: TenantInfo | None
    is_current: bool
    created_at: str
    last_used_at: str
    expires_at: str


class SessionRevoked(TypedDict):
    """`revoked` is false when it was over already."""

    session_id: str
    revoked: bool


class SessionsRevoked(TypedDict):
    """How many other sessions were open."""

    revoked: int


class Profile(TypedDict):
    """What a user tells of itself."""

    user_id: str
    username: str
    email: str
    display_name: str | None
    avatar_url: str | None
    bio: str | None
    phone: str | None
    extra: dict[str, Any]


class Preferences(TypedDict):
    """How a user wants it."""

    theme: Theme
    language: str
    timezone: str
    sidebar_collapsed: bool
    notifications_enabled: bool
    email_notifications: bool
    extra: dict[str, Any]


class NavNode(TypedDict):
    """An entry of the navigation, and those below it. `path` is its page's."""

    id: str
    title: str
    icon: str | None
    description: str | None
    item_type: str
    page_id: str | None
    path: str | None
    sort_order: int
    is_expanded_default: bool
    children: list[NavNode]


class Navigation(TypedDict):
    """What the caller sees."""

    items: list[NavNode]


class PageAccess(TypedDict):
    """Whether a page opens, and why not. A page of another tenant is as unknown as none."""

    allowed: bool
    reason: AccessReason


class NewUser(TypedDict):
    """A user as it registered."""

    username: str
    email: str
    status: Status


class Registered(TypedDict):
    """The same whether the name or the address was known: what became of it is said by mail."""

    user: NewUser
    verification_status: Literal["pending"]


class Verified(TypedDict):
    """The address is the user's own."""

    success: bool
    user: UserInfo


class Invitation(TypedDict):
    """Who was invited; the link is in the mail alone."""

    id: str
    email: str
    tenant_id: str
    role_ids: list[str]
    expires_at: str


HIDDEN = Field(repr=False)
"""Of every field that is a credential."""


def _one_of(password: str | None, hashed: str | None, name: str) -> None:
    if (password is None) == (hashed is None):
        raise ValueError(f"give {name}, or {name}_hash")


class LoginRequest(Request):
    """Log a user in; into its first tenant unless one is named."""

    example: ClassVar[Example] = {"username": "ada", "password": "correct horse"}

    username: LoginName
    password: Annotated[Password, HIDDEN]
    tenant_id: Omit[TenantName]


class LoginClientRequest(Request):
    """Log a client in with its PSK."""

    example: ClassVar[Example] = {"psk": "a-psk-of-43-characters-or-more-as-it-was-shown"}

    psk: Annotated[Credential, HIDDEN]
    tenant_id: Omit[TenantName]


class RefreshRequest(Request):
    """Ask for a new access token of a session: by its refresh token, or by an access token that is still good."""

    example: ClassVar[Example] = {}

    refresh_token: Annotated[Omit[Credential], HIDDEN]


class TenantRequest(Request):
    """Name a tenant by its id or slug."""

    example: ClassVar[Example] = {"tenant_id": "hill-school"}

    tenant_id: TenantName


class ChangePasswordRequest(Request):
    """Change the caller's password."""

    example: ClassVar[Example] = {"current_password": "correct horse", "new_password": "battery staple"}

    current_password: Annotated[Password, HIDDEN]
    new_password: Annotated[Omit[Password], HIDDEN]
    new_password_hash: Annotated[Omit[PasswordHash], HIDDEN]

    @model_validator(mode="after")
    def _one_of_them(self) -> ChangePasswordRequest:
        _one_of(self.new_password, self.new_password_hash, "new_password")
        return self


class EmailRequest(Request):
    """Name an address."""

    example: ClassVar[Example] = {"email": "ada@example.com"}

    email: Email


class ConfirmResetRequest(Request):
    """Set a new password with the token of a mail."""

    example: ClassVar[Example] = {"token": "of-the-mail", "new_password": "battery staple"}

    token: Annotated[Credential, HIDDEN]
    new_password: Annotated[Omit[Password], HIDDEN]
    new_password_hash: Annotated[Omit[PasswordHash], HIDDEN]

    @model_validator(mode="after")
    def _one_of_them(self) -> ConfirmResetRequest:
        _one_of(self.new_password, self.new_password_hash, "new_password")
        return self


class SessionRequest(Request):
    """Name a session."""

    example: ClassVar[Example] = {"session_id": EXAMPLE_ID}

    session_id: Id


class ProfileRequest(Request):
    """What changes of the caller's profile; what is left out stays, `""` empties."""

    example: ClassVar[Example] = {"display_name": "Ada Lovelace", "extra": {"pronouns": "she"}}

    display_name: Omit[Text]
    avatar_url: Omit[Url]
    bio: Omit[Prose]
    phone: Omit[Text]
    extra: Omit[dict[str, Any]]


class PreferencesRequest(Request):
    """What changes of the caller's preferences; what is left out stays."""

    example: ClassVar[Example] = {"theme": "dark", "timezone": "Europe/London"}

    theme: Omit[Theme]
    language: Omit[Annotated[Text, StringConstraints(min_length=1)]]
    timezone: Omit[Annotated[Text, StringConstraints(min_length=1)]]
    sidebar_collapsed: Omit[bool]
    notifications_enabled: Omit[bool]
    email_notifications: Omit[bool]
    extra: Omit[dict[str, Any]]


class PageRequest(Request):
    """Name a page by its path."""

    example: ClassVar[Example] = {"path": "/articles"}

    path: PagePath


class RegisterRequest(Request):
    """Register a user with a tenant that is open to it."""

    example: ClassVar[Example] = {
        "username": "ada",
        "email": "ada@example.com",
        "password": "correct horse",
        "tenant_id": "hill-school",
    }

    username: NewUsername
    email: Email
    password: Annotated[Omit[Password], HIDDEN]
    password_hash: Annotated[Omit[PasswordHash], HIDDEN]
    tenant_id: TenantName

    @model_validator(mode="after")
    def _one_of_them(self) -> RegisterRequest:
        _one_of(self.password, self.password_hash, "password")
        return self


class TokenRequest(Request):
    """What the link of a mail carries."""

    example: ClassVar[Example] = {"token": "of-the-mail"}

    token: Annotated[Credential, HIDDEN]


class AcceptInvitationRequest(Request):
    """Accept an invitation, with a password for a new user, or that of the user who has the address already."""

    example: ClassVar[Example] = {"token": "of-the-mail", "password": "correct horse"}

    token: Annotated[Credential, HIDDEN]
    password: Annotated[Password, HIDDEN]


class InvitationRequest(Request):
    """Invite somebody to a tenant."""

    example: ClassVar[Example] = {
        "email": "ada@example.com",
        "tenant_id": EXAMPLE_ID,
        "role_ids": [EXAMPLE_ID],
    }

    email: Email
    tenant_id: Id
    role_ids: Annotated[list[Id], Field(max_length=MAX_ROLES)] = Field(default_factory=list)


_OF_SESSION = ("no_session",)
_OF_USER = ("no_session", "users_only")
_MAIL = ("sender_not_allowed", "invalid_template", "model_key_missing", "invalid_subject")

portal = Service("portal", "/api/portal")
LOGIN = portal.write(
    "login",
    LoginRequest,
    Login,
    "Log a user in by name or address.",
    path="auth/login",
    retry=Retry.NEVER,
    errors=("login_failed", "login_locked", "tenant_denied"),
)
LOGIN_CLIENT = portal.write(
    "login_client",
    LoginClientRequest,
    ClientLogin,
    "Log a client in by its PSK.",
    path="auth/login-client",
    retry=Retry.NEVER,
    errors=("login_failed", "tenant_denied"),
)
LOGOUT = portal.read(
    "logout",
    Empty,
    LoggedOut,
    "End the caller's session.",
    path="auth/logout",
    scope=None,
    errors=_OF_SESSION,
)
REFRESH = portal.read(
    "refresh",
    RefreshRequest,
    Refreshed,
    "Get a new access token of a session.",
    path="auth/refresh",
    scope=None,
    errors=("refresh_invalid", "refresh_reused", *_OF_SESSION),
)
ME = portal.read(
    "me", Empty, Me, "Say who calls, and with which rights.", path="auth/me", method="GET", scope=None
)
SWITCH_TENANT = portal.read(
    "switch_tenant",
    TenantRequest,
    Refreshed,
    "Go on in another tenant of the caller.",
    path="auth/switch-tenant",
    scope=None,
    errors=("tenant_denied", *_OF_SESSION),
)
CHANGE_PASSWORD = portal.write(
    "change_password",
    ChangePasswordRequest,
    Done,
    "Change the caller's password, and end its other sessions.",
    path="security/change-password",
    scope=None,
    errors=("login_failed", "login_locked", *_OF_USER),
)
REQUEST_RESET = portal.write(
    "request_password_reset",
    EmailRequest,
    Done,
    "Mail a link that sets a new password, if a user has the address.",
    path="security/request-reset",
    errors=("portal_not_configured", *_MAIL),
)
CONFIRM_RESET = portal.write(
    "confirm_password_reset",
    ConfirmResetRequest,
    Done,
    "Set a new password with the token of a mail, and end all sessions.",
    path="security/confirm-reset",
    errors=("mail_link_invalid",),
)
LIST_SESSIONS = portal.read(
    "list_sessions",
    Empty,
    list[SessionInfo],
    "List the caller's open sessions, the newest first.",
    path="security/sessions",
    method="GET",
    scope=None,
    errors=_OF_SESSION,
)
REVOKE_SESSION = portal.read(
    "revoke_session",
    SessionRequest,
    SessionRevoked,
    "End a session of the caller.",
    path="security/sessions/{session_id}",
    method="DELETE",
    scope=None,
    errors=("session_not_found", *_OF_SESSION),
)
REVOKE_ALL = portal.read(
    "revoke_all_sessions",
    Empty,
    SessionsRevoked,
    "End all sessions of the caller but this one.",
    path="security/sessions/revoke-all",
    scope=None,
    errors=_OF_SESSION,
)
GET_PROFILE = portal.read(
    "get_profile",
    Empty,
    Profile,
    "Read the caller's profile.",
    path="profile",
    method="GET",
    scope=None,
    errors=_OF_USER,
)
UPDATE_PROFILE = portal.write(
    "update_profile",
    ProfileRequest,
    Profile,
    "Change the caller's profile.",
    path="profile",
    method="PUT",
    scope=None,
    errors=_OF_USER,
)
GET_PREFERENCES = portal.read(
    "get_preferences",
    Empty,
    Preferences,
    "Read the caller's preferences.",
    path="profile/preferences",
    method="GET",
    scope=None,
    errors=_OF_USER,
)
UPDATE_PREFERENCES = portal.write(
    "update_preferences",
    PreferencesRequest,
    Preferences,
    "Change the caller's preferences.",
    path="profile/preferences",
    method="PUT",
    scope=None,
    errors=_OF_USER,
)
GET_NAVIGATION = portal.read(
    "get_navigation",
    Empty,
    Navigation,
    "Read the navigation that the caller sees.",
    path="nav/tree",
    method="GET",
    scope=None,
    errors=_OF_SESSION,
)
CHECK_PAGE_ACCESS = portal.read(
    "check_page_access",
    PageRequest,
    PageAccess,
    "Say whether a page opens to the caller.",
    path="nav/check-access",
    scope=None,
    errors=_OF_SESSION,
)
REGISTER = portal.write(
    "register",
    RegisterRequest,
    Registered,
    "Register a user with a tenant that is open to it.",
    path="register",
    errors=("registration_closed", "portal_not_configured", *_MAIL),
)
VERIFY_EMAIL = portal.write(
    "verify_email",
    TokenRequest,
    Verified,
    "Confirm an address with the token of a mail.",
    path="register/verify",
    errors=("mail_link_invalid",),
)
RESEND_VERIFICATION = portal.write(
    "resend_verification",
    EmailRequest,
    Done,
    "Mail the link that confirms an address again, if a user waits for it.",
    path="register/resend-verification",
    errors=("portal_not_configured", *_MAIL),
)
ACCEPT_INVITATION = portal.write(
    "accept_invitation",
    AcceptInvitationRequest,
    Login,
    "Accept an invitation, and log in.",
    path="register/accept-invitation",
    retry=Retry.NEVER,
    errors=("mail_link_invalid", "login_failed", "login_locked", "already_exists"),
)
CREATE_INVITATION = portal.write(
    "create_invitation",
    InvitationRequest,
    Invitation,
    "Invite somebody to a tenant, by mail.",
    path="/api/guardian/invitations",
    scope="auth:write",
    errors=("not_found", "portal_not_configured", *_MAIL),
)
