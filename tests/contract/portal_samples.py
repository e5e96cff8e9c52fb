"""A real call of each operation of portal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from portal_support import PASSWORD, a_user, link_of

from dominus import Dominus

Fields = dict[str, Any]
Call = Callable[[Dominus, Fields], Awaitable[Any]]


async def a_person(client: Dominus, fields: Fields) -> Any:
    tag = fields["tag"]
    return await a_user(client, username=f"ada_{tag}", email=f"{tag}@example.com")


async def logged_in(client: Dominus, fields: Fields) -> Fields:
    """A session of a user of its own; calls are sent as that user."""
    person = await a_person(client, fields)
    session = await client.portal.login(person.username, PASSWORD)
    more: Fields = {"user_token": session["access_token"]}
    if "tenant_id" in fields:
        tenant = await client.auth.tenants.create("Hill", f"hill-{fields['tag']}")
        await client.auth.users.tenants.add(person.id, [tenant["id"]])
        more["tenant_id"] = tenant["slug"]
    if "session_id" in fields:
        more["session_id"] = (await client.portal.login(person.username, PASSWORD))["session_id"]
    return more


async def a_client(client: Dominus, fields: Fields) -> Fields:
    return {"psk": (await client.auth.clients.create(f"Import {fields['tag']}"))["psk"]}


async def an_address(client: Dominus, fields: Fields) -> Fields:
    return {"email": (await a_person(client, fields)).email}


async def an_open_tenant(client: Dominus, fields: Fields) -> Fields:
    tag = fields["tag"]
    tenant = await client.auth.tenants.create("Hill", f"hill-{tag}", registration_open=True)
    return {"email": f"{tag}@example.com", "tenant_id": tenant["slug"]}


async def a_reset(client: Dominus, fields: Fields) -> Fields:
    person = await a_person(client, fields)
    await client.portal.request_password_reset(person.email)
    return {"token": await link_of(client, person.email, "password-reset")}


async def a_verification(client: Dominus, fields: Fields) -> Fields:
    person = await a_person(client, fields)
    await client.portal.resend_verification(person.email)
    return {"token": await link_of(client, person.email, "email-verification")}


async def somewhere(client: Dominus, fields: Fields) -> Fields:
    tag = fields["tag"]
    role = await client.auth.roles.create(f"guest {tag}")
    tenant = await client.auth.tenants.create("Hill", f"hill-{tag}")
    return {"email": f"{tag}@example.com", "tenant_id": tenant["id"], "role_ids": [role["id"]]}


async def an_invitation(client: Dominus, fields: Fields) -> Fields:
    place = await somewhere(client, fields)
    await client.portal.create_invitation(**place)
    return {"token": await link_of(client, place["email"], "invitation")}


def timeless(found: Any, _tag: str) -> Any:
    """What is the same in every answer: no ids, no tokens, no times."""
    hidden = ("id", "_token", "_at", "_ids", "subject")
    if isinstance(found, dict):
        return {name: timeless(value, "") for name, value in found.items() if not name.endswith(hidden)}
    return [timeless(each, "") for each in found] if isinstance(found, list) else found


def of(name: str) -> Callable[[Any], Any]:
    return lambda data: data[name]


USER = {"username": "ada_TAG", "email": "TAG@example.com", "status": "active", "email_verified": False}
HILL = {"slug": "hill-TAG", "name": "Hill", "display_name": None}
LOGIN = {
    "token_type": "Bearer",
    "expires_in": 900,
    "subject_type": "user",
    "user": USER,
    "tenant": None,
    "tenants": [],
}
IN_HILL = {**LOGIN, "tenant": HILL, "tenants": [HILL]}
PROFILE = {"username": "ada_TAG", "email": "TAG@example.com", "avatar_url": None, "bio": None, "phone": None}
PREFERENCES = {
    "language": "en",
    "sidebar_collapsed": False,
    "notifications_enabled": True,
    "email_notifications": True,
    "extra": {},
}


def portal_samples() -> dict[str, dict[str, Any]]:
    """The arguments of each operation's sample."""
    return {
        "portal.login": {"expected": LOGIN, "before": a_person_only, "shape": timeless},
        "portal.login_client": {
            "expected": {
                **{name: value for name, value in LOGIN.items() if name != "user"},
                "subject_type": "client",
                "client": {"label": "Import TAG", "status": "active"},
            },
            "before": a_client,
            "shape": timeless,
        },
        "portal.logout": {"expected": True, "read": of("logged_out"), "before": logged_in},
        "portal.refresh": {"expected": LOGIN, "before": logged_in, "shape": timeless},
        "portal.me": {
            "expected": {
                "subject_type": "user",
                "user": USER,
                "tenant": None,
                "tenants": [],
                "scopes": [],
                "roles": [],
            },
            "before": logged_in,
            "shape": timeless,
        },
        "portal.switch_tenant": {"expected": IN_HILL, "before": logged_in, "shape": timeless},
        "portal.change_password": {"expected": True, "read": of("success"), "before": logged_in},
        "portal.request_password_reset": {"expected": True, "read": of("success"), "before": an_address},
        "portal.confirm_password_reset": {"expected": True, "read": of("success"), "before": a_reset},
        "portal.list_sessions": {
            "expected": [{"tenant": None, "is_current": True}],
            "before": logged_in,
            "shape": timeless,
        },
        "portal.revoke_session": {"expected": True, "read": of("revoked"), "before": logged_in},
        "portal.revoke_all_sessions": {"expected": 0, "read": of("revoked"), "before": logged_in},
        "portal.get_profile": {
            "expected": {**PROFILE, "display_name": None, "extra": {}},
            "before": logged_in,
            "shape": timeless,
        },
        "portal.update_profile": {
            "expected": {**PROFILE, "display_name": "Ada Lovelace", "extra": {"pronouns": "she"}},
            "before": logged_in,
            "shape": timeless,
        },
        "portal.get_preferences": {
            "expected": {**PREFERENCES, "theme": "system", "timezone": "UTC"},
            "before": logged_in,
        },
        "portal.update_preferences": {
            "expected": {**PREFERENCES, "theme": "dark", "timezone": "Europe/London"},
            "before": logged_in,
        },
        "portal.get_navigation": {
            "expected": True,
            "before": logged_in,
            "shape": lambda found, _: isinstance(found["items"], list),
        },
        "portal.check_page_access": {"expected": False, "read": of("allowed"), "before": logged_in},
        "portal.register": {
            "expected": {
                "user": {"username": "ada_TAG", "email": "TAG@example.com", "status": "inactive"},
                "verification_status": "pending",
            },
            "before": an_open_tenant,
        },
        "portal.verify_email": {"expected": True, "read": of("success"), "before": a_verification},
        "portal.resend_verification": {"expected": True, "read": of("success"), "before": an_address},
        "portal.accept_invitation": {
            "expected": {
                **IN_HILL,
                "user": {**USER, "username": "TAG@example.com", "email_verified": True},
            },
            "before": an_invitation,
            "shape": timeless,
        },
        "portal.create_invitation": {
            "expected": {"email": "TAG@example.com"},
            "before": somewhere,
            "shape": timeless,
        },
    }


async def a_person_only(client: Dominus, fields: Fields) -> None:
    await a_person(client, fields)
