"""dominus.portal: logins of users and clients, their sessions, profiles and navigation."""
# Over 350 lines, of which most are documentation: a method for each of twenty-three calls.

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from dominus.contract import portal as contract
from dominus.contract.operation import Operation
from dominus.contract.values import wire_value
from dominus.errors import AuthenticationError
from dominus.namespaces.base import Namespace, as_list
from dominus.namespaces.guardian.hashing import hashed_password

__all__ = ["Portal"]

Data = TypeVar("Data")


class Portal(Namespace):
    """Logins of users and clients, and what they see.

    A call of a user takes its token: `user_token=`, or on `dominus.as_user(token).portal`.
    """

    async def _ask_as(
        self, user_token: str | None, op: Operation[Any, Data], timeout: float | None, **fields: Any
    ) -> Data:
        """Send an operation as a user; without a token as whoever this client is."""
        caller = self._caller if user_token is None else self._caller.as_user(user_token, "user_token")
        return await caller.send(op, op.request(**fields), timeout=timeout)

    async def login(
        self, username: str, password: str, tenant_id: str | None = None, *, timeout: float | None = None
    ) -> contract.Login:
        """Log a user in: `{"access_token", "refresh_token", "session_id", "user", "tenant", "tenants", ...}`.

        Args:
            username: the name or the address.
            password: as it was typed, up to 72 bytes of UTF-8.
            tenant_id: id or slug of one of the user's tenants; the first by slug without it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthenticationError: name and password do not fit (code `login_failed`), or the user may not log in.
            RateLimitError: too many failures in a row (code `login_locked`); `retry_after` says when.
            AuthorizationError: the user does not belong to the tenant (code `tenant_denied`).

        Example:
            ```python
            session = await dominus.portal.login("ada", "correct horse")
            me = await dominus.portal.me(user_token=session["access_token"])
            assert me["user"]["username"] == "ada"
            ```
        """
        fields = {"username": username, "password": password, "tenant_id": tenant_id}
        return await self._ask(contract.LOGIN, timeout, **fields)

    async def login_client(
        self, psk: str, tenant_id: str | None = None, *, timeout: float | None = None
    ) -> contract.ClientLogin:
        """Log a client in by its PSK; the answer is as that of `login`, with `client` for `user`.

        Args:
            psk: as it was shown when it was made.
            tenant_id: id or slug of one of the client's tenants; the first by slug without it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthenticationError: there is no such PSK, or its client may not log in (code `login_failed`).
            AuthorizationError: the client does not belong to the tenant (code `tenant_denied`).

        Example:
            ```python
            session = await dominus.portal.login_client(psk)
            print(session["client"]["label"])
            ```
        """
        return await self._ask(contract.LOGIN_CLIENT, timeout, psk=psk, tenant_id=tenant_id)

    async def logout(self, user_token: str | None = None, *, timeout: float | None = None) -> bool:
        """End the session; its tokens are refused from now on, on all servers within 5 s.

        Args:
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the token belongs to no login (code `no_session`).

        Example:
            ```python
            await dominus.portal.logout(user_token=session["access_token"])
            ```
        """
        try:
            return (await self._ask_as(user_token, contract.LOGOUT, timeout))["logged_out"]
        except AuthenticationError as error:
            # It was over already, perhaps by a try of this very call.
            if error.code != "session_revoked":
                raise
            return True

    async def refresh(
        self, user_token: str | None = None, *, refresh_token: str | None = None, timeout: float | None = None
    ) -> contract.Refreshed:
        """Get a new access token of a session, with its user's rights of now.

        Args:
            user_token: an access token that is still good; without it that of `as_user`.
            refresh_token: the newest one, instead of an access token; the answer has the next one.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthenticationError: the refresh token is unknown or expired (code `refresh_invalid`), or was used before:
                then the session is over, since somebody has a copy (`refresh_reused`).

        Example:
            ```python
            session = await dominus.portal.refresh(refresh_token=session["refresh_token"])
            ```
        """
        return await self._ask_as(user_token, contract.REFRESH, timeout, refresh_token=refresh_token)

    async def me(self, user_token: str | None = None, *, timeout: float | None = None) -> contract.Me:
        """Return who calls: user or client, tenants, and the scopes and roles in the active one.

        Args:
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            me = await dominus.portal.me(user_token=session["access_token"])
            print(me["subject_type"], me["scopes"], me["roles"])
            ```
        """
        return await self._ask_as(user_token, contract.ME, timeout)

    async def switch_tenant(
        self, tenant_id: str, user_token: str | None = None, *, timeout: float | None = None
    ) -> contract.Refreshed:
        """Go on in another tenant of the user: the answer has a token with the rights there.

        Args:
            tenant_id: id or slug.
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the user does not belong to the tenant (code `tenant_denied`).

        Example:
            ```python
            tenant = session["tenants"][0]
            session = await dominus.portal.switch_tenant(tenant["id"], user_token=session["access_token"])
            ```
        """
        return await self._ask_as(user_token, contract.SWITCH_TENANT, timeout, tenant_id=tenant_id)

    async def change_password(
        self,
        current_password: str,
        new_password: str,
        user_token: str | None = None,
        *,
        timeout: float | None = None,
    ) -> bool:
        """Change the user's password; its other sessions end. The new one is hashed here, in a thread.

        Args:
            current_password: the one until now.
            new_password: up to 72 bytes of UTF-8.
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthenticationError: the current password is wrong (code `login_failed`).
            RateLimitError: too many failures in a row (code `login_locked`); `retry_after` says when.

        Example:
            ```python
            token = session["access_token"]
            await dominus.portal.change_password("correct horse", "battery staple", user_token=token)
            ```
        """
        hashed = await hashed_password(new_password, "new_password")
        fields = {"current_password": current_password, "new_password_hash": hashed}
        return (await self._ask_as(user_token, contract.CHANGE_PASSWORD, timeout, **fields))["success"]

    async def request_password_reset(self, email: str, *, timeout: float | None = None) -> bool:
        """Mail a link that sets a new password, if a user has the address; nobody is told whether.

        Args:
            email: of the user.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            await dominus.portal.request_password_reset("ada@example.com")
            ```
        """
        return (await self._ask(contract.REQUEST_RESET, timeout, email=email))["success"]

    async def confirm_password_reset(
        self, token: str, new_password: str, *, timeout: float | None = None
    ) -> bool:
        """Set a new password with the token of a mail; all sessions end. The password is hashed here, in a thread.

        Args:
            token: of the link, good once and for an hour.
            new_password: up to 72 bytes of UTF-8.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: the link was used, is too old, or is none of ours (code `mail_link_invalid`).

        Example:
            ```py
            await dominus.portal.confirm_password_reset(token, "battery staple")
            ```
        """
        hashed = await hashed_password(new_password, "new_password")
        answer = await self._ask(contract.CONFIRM_RESET, timeout, token=token, new_password_hash=hashed)
        return answer["success"]

    async def list_sessions(
        self, user_token: str | None = None, *, timeout: float | None = None
    ) -> builtins.list[contract.SessionInfo]:
        """List the open sessions of the user, the newest first.

        Args:
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the token belongs to no login (code `no_session`).

        Example:
            ```python
            for found in await dominus.portal.list_sessions(user_token=session["access_token"]):
                print(found["session_id"], found["last_used_at"], found["is_current"])
            ```
        """
        return await self._ask_as(user_token, contract.LIST_SESSIONS, timeout)

    async def revoke_session(
        self, session_id: str, user_token: str | None = None, *, timeout: float | None = None
    ) -> bool:
        """End a session of the user; false when it was over already.

        Args:
            session_id: as `login` and `list_sessions` give it.
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: the user has no such session (code `session_not_found`).

        Example:
            ```python
            other = await dominus.portal.login("ada", "correct horse")
            assert await dominus.portal.revoke_session(other["session_id"], user_token=session["access_token"])
            ```
        """
        return (await self._ask_as(user_token, contract.REVOKE_SESSION, timeout, session_id=session_id))[
            "revoked"
        ]

    async def revoke_all_sessions(
        self, user_token: str | None = None, *, timeout: float | None = None
    ) -> int:
        """End all sessions of the user but this one; return how many there were.

        Args:
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the token belongs to no login (code `no_session`).

        Example:
            ```python
            print(await dominus.portal.revoke_all_sessions(user_token=session["access_token"]))
            ```
        """
        return (await self._ask_as(user_token, contract.REVOKE_ALL, timeout))["revoked"]

    async def get_profile(
        self, user_token: str | None = None, *, timeout: float | None = None
    ) -> contract.Profile:
        """Return the user's profile.

        Args:
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the token is not a user's (codes `no_session`, `users_only`).

        Example:
            ```python
            profile = await dominus.portal.get_profile(user_token=session["access_token"])
            print(profile["display_name"])
            ```
        """
        return await self._ask_as(user_token, contract.GET_PROFILE, timeout)

    async def update_profile(
        self,
        display_name: str | None = None,
        avatar_url: str | None = None,
        bio: str | None = None,
        phone: str | None = None,
        extra: Mapping[str, Any] | None = None,
        user_token: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.Profile:
        """Change the user's profile; what is left out stays, `""` empties.

        Args:
            display_name: up to 200 characters.
            avatar_url: `http(s)://...`, up to 2,000 characters.
            bio: up to 2,000 characters.
            phone: up to 200 characters.
            extra: a JSON object of up to 16 KiB, which replaces the one before.
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the token is not a user's (codes `no_session`, `users_only`).

        Example:
            ```python
            await dominus.portal.update_profile(display_name="Ada Lovelace", user_token=session["access_token"])
            ```
        """
        fields = {"display_name": display_name, "avatar_url": avatar_url, "bio": bio, "phone": phone}
        return await self._ask_as(user_token, contract.UPDATE_PROFILE, timeout, extra=_plain(extra), **fields)

    async def get_preferences(
        self, user_token: str | None = None, *, timeout: float | None = None
    ) -> contract.Preferences:
        """Return the user's preferences.

        Args:
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the token is not a user's (codes `no_session`, `users_only`).

        Example:
            ```python
            preferences = await dominus.portal.get_preferences(user_token=session["access_token"])
            print(preferences["theme"])
            ```
        """
        return await self._ask_as(user_token, contract.GET_PREFERENCES, timeout)

    async def update_preferences(
        self,
        theme: str | None = None,
        language: str | None = None,
        timezone: str | None = None,
        sidebar_collapsed: bool | None = None,
        notifications_enabled: bool | None = None,
        email_notifications: bool | None = None,
        extra: Mapping[str, Any] | None = None,
        user_token: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.Preferences:
        """Change the user's preferences; what is left out stays.

        Args:
            theme: `light`, `dark` or `system`.
            language: such as `en`, up to 200 characters.
            timezone: such as `Europe/London`, up to 200 characters.
            sidebar_collapsed: whether the navigation is folded.
            notifications_enabled: whether the user wants to be notified.
            email_notifications: by mail, too.
            extra: a JSON object of up to 16 KiB, which replaces the one before.
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the token is not a user's (codes `no_session`, `users_only`).

        Example:
            ```python
            await dominus.portal.update_preferences(theme="dark", user_token=session["access_token"])
            ```
        """
        fields = {"theme": theme, "language": language, "timezone": timezone}
        flags = {
            "sidebar_collapsed": sidebar_collapsed,
            "notifications_enabled": notifications_enabled,
            "email_notifications": email_notifications,
        }
        return await self._ask_as(
            user_token, contract.UPDATE_PREFERENCES, timeout, extra=_plain(extra), **fields, **flags
        )

    async def get_navigation(
        self, user_token: str | None = None, *, timeout: float | None = None
    ) -> contract.Navigation:
        """Return the navigation that the user sees: `{"items": [...]}`, each item with `children`.

        Args:
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the token belongs to no login (code `no_session`).

        Example:
            ```python
            tree = await dominus.portal.get_navigation(user_token=session["access_token"])
            print([item["title"] for item in tree["items"]])
            ```
        """
        return await self._ask_as(user_token, contract.GET_NAVIGATION, timeout)

    async def check_page_access(
        self, path: str, user_token: str | None = None, *, timeout: float | None = None
    ) -> bool:
        """Tell whether a page opens to the user; false for one that does not exist.

        Args:
            path: of a page, such as `/articles`.
            user_token: the user's; without it that of `as_user`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the token belongs to no login (code `no_session`).

        Example:
            ```python
            if not await dominus.portal.check_page_access("/articles", user_token=session["access_token"]):
                print("not for you")
            ```
        """
        return (await self._ask_as(user_token, contract.CHECK_PAGE_ACCESS, timeout, path=path))["allowed"]

    async def register(
        self, username: str, email: str, password: str, tenant_id: str, *, timeout: float | None = None
    ) -> contract.Registered:
        """Register a user with a tenant; the user becomes active by the link of a mail.

        The password is hashed here, in a thread.

        Args:
            username: 1 to 100 characters, no `@` and no space.
            email: of the user.
            password: up to 72 bytes of UTF-8.
            tenant_id: id or slug of a tenant with `registration_open`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the tenant is not open to it, or there is none (code `registration_closed`).

        Example:
            ```python
            tenant = await dominus.auth.tenants.create("Dale", "dale-school", registration_open=True)
            await dominus.portal.register("bea", "bea@example.com", "correct horse", tenant["id"])
            ```
        """
        hashed = await hashed_password(password, "password")
        fields = {"username": username, "email": email, "password_hash": hashed, "tenant_id": tenant_id}
        return await self._ask(contract.REGISTER, timeout, **fields)

    async def verify_email(self, token: str, *, timeout: float | None = None) -> bool:
        """Confirm an address with the token of a mail; a user who registered is active then.

        Args:
            token: of the link, good once and for a day.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: the link was used, is too old, or is none of ours (code `mail_link_invalid`).

        Example:
            ```py
            await dominus.portal.verify_email(token)
            ```
        """
        return (await self._ask(contract.VERIFY_EMAIL, timeout, token=token))["success"]

    async def resend_verification(self, email: str, *, timeout: float | None = None) -> bool:
        """Mail the link that confirms an address again, if a user waits for it; nobody is told whether.

        Args:
            email: of the user.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            await dominus.portal.resend_verification("ada@example.com")
            ```
        """
        return (await self._ask(contract.RESEND_VERIFICATION, timeout, email=email))["success"]

    async def accept_invitation(
        self, token: str, password: str, *, timeout: float | None = None
    ) -> contract.Login:
        """Accept an invitation and log in: a new user, or the one who has the address already.

        Args:
            token: of the link, good once and for a week.
            password: the new user's, up to 72 bytes of UTF-8; that of the user who has the address already.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: the link was used, is too old, or is none of ours (code `mail_link_invalid`).
            AuthenticationError: it is not the password of the user who has the address (code `login_failed`).

        Example:
            ```py
            session = await dominus.portal.accept_invitation(token, "correct horse")
            ```
        """
        return await self._ask(contract.ACCEPT_INVITATION, timeout, token=token, password=password)

    async def create_invitation(
        self, email: str, tenant_id: str, role_ids: Sequence[str] = (), *, timeout: float | None = None
    ) -> contract.Invitation:
        """Invite somebody to a tenant, by a mail with a link that is good for a week.

        Args:
            email: where the link goes.
            tenant_id: the id of a tenant.
            role_ids: ids of up to 100 roles, which who accepts is given.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: the tenant or a role does not exist.

        Example:
            ```python
            tenant = await dominus.auth.tenants.create("Marsh", "marsh-school")
            await dominus.portal.create_invitation("cleo@example.com", tenant["id"])
            ```
        """
        ids = as_list(role_ids, "role_ids")
        return await self._ask(
            contract.CREATE_INVITATION, timeout, email=email, tenant_id=tenant_id, role_ids=ids
        )


def _plain(extra: Mapping[str, Any] | None) -> Any:
    return None if extra is None else wire_value(dict(extra))
