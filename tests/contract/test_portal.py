"""portal with real engines: who logs in, for how long, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import bcrypt
import httpx
import jwt
import pytest
import pytest_asyncio
from portal_support import PASSWORD, Person, a_user, hash_of, link_of, mails_to
from server_support import Server, make_server, process_resources, server

from dominus import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    Dominus,
    DominusError,
    NotFoundError,
    RateLimitError,
    ValidationError,
)
from dominus.orchestrator.services.portal import failures, links, purge, sessions
from dominus.orchestrator.serving.in_process import EmbeddedTransport

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
Make = Callable[..., Awaitable[Server]]
NEW = "battery staple"


class Borrowed(httpx.AsyncBaseTransport):
    """A transport that a client may close, and the app goes on."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.handle_async_request = inner.handle_async_request


def client_of(server: Server, **options: Any) -> Dominus:
    transport = Borrowed(EmbeddedTransport(server.app))
    return Dominus(url="http://dominus.test", token=server.psk, transport=transport, **options)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: Server) -> AsyncIterator[Dominus]:
    yield client_of(server)


async def sql(server: Server, statement: str, *values: Any) -> Any:
    return await server.resources.postgres.system.fetch(statement, *values)


async def code_of(call: Awaitable[Any]) -> str:
    with pytest.raises(DominusError) as caught:
        await call
    return caught.value.code


async def login(client: Dominus, person: Person, password: str = PASSWORD, **more: Any) -> Any:
    return await client.portal.login(person.username, password, **more)


# --- logging in


async def test_a_login_by_name_or_address_gives_a_token_with_the_rights_in_the_tenant(
    client: Dominus,
) -> None:
    ada = await a_user(client, tenants=2)
    scope = await client.auth.scopes.create(f"articles:{ada.username}", "Write")
    role = await client.auth.roles.create(f"editor-{ada.username}")
    await client.auth.roles.scopes.add(role["id"], [scope["id"]])
    await client.auth.users.roles.add(ada.id, [role["id"]])

    for name in (ada.username, ada.email, ada.email.upper()):
        session = await client.portal.login(name, PASSWORD)
        assert session["user"] == {
            "id": ada.id,
            "username": ada.username,
            "email": ada.email,
            "status": "active",
            "email_verified": False,
        }
        assert session["tenant"]["id"] == ada.tenants[0]["id"]
        assert [each["slug"] for each in session["tenants"]] == [each["slug"] for each in ada.tenants]
        claims = await client.auth.validate_jwt(session["access_token"])
        assert (claims["use"], claims["sub"], claims["sid"]) == ("user", ada.id, session["session_id"])
        assert (claims["tenant_id"], claims["tenant"]) == (ada.tenants[0]["id"], ada.tenants[0]["slug"])
        assert (claims["scopes"], claims["roles"]) == ([scope["slug"]], [role["name"]])
        assert claims["exp"] - claims["iat"] == session["expires_in"] == 900
        assert "aud" not in claims


async def test_an_address_is_its_users_own_also_where_another_has_it_as_a_name(client: Dominus) -> None:
    ada = await a_user(client)
    bea = await a_user(client, password=NEW, username=ada.email)

    assert (await client.portal.login(ada.email, PASSWORD))["user"]["id"] == ada.id
    assert await code_of(client.portal.login(bea.username, NEW)) == "login_failed"
    assert (await client.portal.login(bea.email, NEW))["user"]["id"] == bea.id


async def test_what_fails_is_told_the_same_whatever_the_reason_is(client: Dominus) -> None:
    ada = await a_user(client)
    idle = await a_user(client, status="suspended")
    said: set[tuple[str, int | None, str]] = set()
    for name, password in ((ada.username, NEW), ("nobody-at-all", PASSWORD), (idle.username, PASSWORD)):
        with pytest.raises(AuthenticationError) as caught:
            await client.portal.login(name, password)
        said.add((caught.value.code, caught.value.status_code, caught.value.message))
    assert [code for code, _, _ in said] == ["login_failed"]


async def test_a_name_that_nobody_has_costs_a_bcrypt_too(
    client: Dominus, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await a_user(client)
    hashed: list[bytes] = []
    real = bcrypt.hashpw

    def counting(raw: bytes, salt: bytes) -> bytes:
        hashed.append(salt)
        return real(raw, salt)

    monkeypatch.setattr(bcrypt, "hashpw", counting)
    counts: list[int] = []
    for name in (ada.username, "nobody-counted"):
        hashed.clear()
        assert await code_of(client.portal.login(name, NEW)) == "login_failed"
        counts.append(len(hashed))
    assert counts == [1, 1]
    assert hashed[0].startswith(b"$2b$12$")


async def test_a_tenant_is_one_of_the_users_own_by_id_or_slug(client: Dominus) -> None:
    ada, bea = await a_user(client, tenants=2), await a_user(client, tenants=1)
    for named in (ada.tenants[1]["id"], ada.tenants[1]["slug"]):
        assert (await login(client, ada, tenant_id=named))["tenant"]["id"] == ada.tenants[1]["id"]
    # Another's is as unknown as none.
    said: set[str] = set()
    for named in (bea.tenants[0]["id"], "no-such-tenant"):
        with pytest.raises(AuthorizationError) as caught:
            await login(client, ada, tenant_id=named)
        assert caught.value.code == "tenant_denied"
        said.add(caught.value.message)
    assert len(said) == 1
    await client.auth.tenants.update(ada.tenants[1]["id"], status="suspended")
    assert await code_of(login(client, ada, tenant_id=ada.tenants[1]["id"])) == "tenant_denied"
    nobody = await a_user(client)
    session = await login(client, nobody)
    assert (session["tenant"], session["tenants"]) == (None, [])


async def test_a_token_of_a_login_needs_the_scope_of_what_it_calls_elsewhere(client: Dominus) -> None:
    ada = await a_user(client)
    session = await login(client, ada)
    with pytest.raises(AuthorizationError):
        await client.as_user(session["access_token"]).secrets.list()
    scopes = (await client.auth.scopes.list(limit=1000))["items"]
    known = {each["slug"]: each["id"] for each in scopes}
    scope_id = known.get("secrets:read") or (await client.auth.scopes.create("secrets:read", "Read"))["id"]
    await client.auth.users.scopes.add(ada.id, [scope_id])
    session = await client.portal.refresh(user_token=session["access_token"])
    assert await client.as_user(session["access_token"]).secrets.list() is not None


async def test_five_failures_lock_a_name_for_a_growing_time(client: Dominus, server: Server) -> None:
    ada = await a_user(client)
    for name in (ada.username, "nobody-locked"):
        for _ in range(failures.FREE_TRIES):
            assert await code_of(client.portal.login(name, NEW)) == "login_failed"
        with pytest.raises(RateLimitError) as caught:
            await client.portal.login(name, PASSWORD)
        assert caught.value.code == "login_locked"
        assert caught.value.retry_after is not None
        assert 50 < caught.value.retry_after <= 60
        # The lock ends; one more failure locks for twice as long.
        for minutes in (2, 4, 8, 15, 15):
            await sql(server, "UPDATE dominus.login_failures SET locked_until = now()")
            assert await code_of(client.portal.login(name, NEW)) == "login_failed"
            with pytest.raises(RateLimitError) as caught:
                await client.portal.login(name, PASSWORD)
            assert caught.value.retry_after is not None
            assert minutes * 60 - 10 < caught.value.retry_after <= minutes * 60
    await sql(server, "UPDATE dominus.login_failures SET locked_until = now()")
    await login(client, ada)
    assert await code_of(client.portal.login(ada.username, NEW)) == "login_failed"
    await login(client, ada)  # the failures in a row began anew


async def test_of_many_tries_at_once_no_more_get_through_than_one_after_the_other(
    client: Dominus, make_server: Make
) -> None:
    ada = await a_user(client)
    other = client_of(await make_server(failed_auth_per_minute=1000))
    tries = [code_of(each.portal.login(ada.username, NEW)) for each in (client, other) for _ in range(10)]
    codes = await asyncio.gather(*tries)
    assert codes.count("login_failed") == failures.FREE_TRIES
    assert codes.count("login_locked") == 20 - failures.FREE_TRIES


async def test_failed_logins_count_against_their_address(client: Dominus, make_server: Make) -> None:
    strict = client_of(await make_server(failed_auth_per_minute=2))
    codes = [await code_of(strict.portal.login(f"nobody-{n}", NEW)) for n in range(3)]
    assert codes == ["login_failed", "login_failed", "rate_limited"]


async def test_a_client_logs_in_by_its_psk(client: Dominus) -> None:
    made = await client.auth.clients.create("Nightly import")
    session = await client.portal.login_client(made["psk"])
    assert session["client"] == {"id": made["id"], "label": "Nightly import", "status": "active"}
    me = await client.portal.me(user_token=session["access_token"])
    assert (me["subject_type"], me["subject"]) == ("client", made["id"])
    assert await code_of(client.portal.login_client("x" * 43)) == "login_failed"
    assert await code_of(client.portal.get_profile(user_token=session["access_token"])) == "users_only"
    await client.auth.clients.update(made["id"], status="suspended")
    assert await code_of(client.portal.login_client(made["psk"])) == "login_failed"
    assert await code_of(client.portal.me(user_token=session["access_token"])) == "session_revoked"


async def test_me_is_anyone_and_the_rest_is_of_logins(client: Dominus) -> None:
    me = await client.portal.me()
    assert (me["subject_type"], me["subject"], me["scopes"]) == ("service", "service:root", ["*"])
    assert await code_of(client.portal.list_sessions()) == "no_session"
    minted = await client.auth.mint_jwt("somebody", scope=["db:read"])
    me = await client.portal.me(user_token=minted["access_token"])
    assert (me["subject_type"], me["subject"], me["session_id"]) == ("user", "somebody", None)
    assert await code_of(client.portal.get_profile(user_token=minted["access_token"])) == "no_session"
    with pytest.raises(AuthenticationError):
        await client.portal.me(user_token="")


async def test_switching_goes_on_in_the_other_tenant(client: Dominus) -> None:
    ada, bea = await a_user(client, tenants=2), await a_user(client, tenants=1)
    session = await login(client, ada)
    user = client.as_user(session["access_token"]).portal
    moved = await user.switch_tenant(ada.tenants[1]["slug"])
    assert (moved["tenant"]["id"], moved["session_id"]) == (ada.tenants[1]["id"], session["session_id"])
    assert (await client.portal.me(user_token=moved["access_token"]))["tenant"]["id"] == ada.tenants[1]["id"]
    refreshed = await client.portal.refresh(refresh_token=session["refresh_token"])
    assert refreshed["tenant"]["id"] == ada.tenants[1]["id"]
    assert await code_of(user.switch_tenant(bea.tenants[0]["id"])) == "tenant_denied"
    # A tenant that the user lost is no tenant of the next token.
    await client.auth.users.tenants.remove(ada.id, [ada.tenants[1]["id"]])
    assert (await user.refresh())["tenant"] is None


async def test_another_project_knows_nothing_of_it(client: Dominus, server: Server) -> None:
    ada = await a_user(client)
    session = await login(client, ada)
    elsewhere = client_of(server, project="elsewhere")
    assert await code_of(elsewhere.portal.login(ada.username, PASSWORD)) == "login_failed"
    stolen = elsewhere.portal.refresh(refresh_token=session["refresh_token"])
    assert await code_of(stolen) == "refresh_invalid"


# --- sessions


async def test_a_refresh_token_is_good_once_and_a_copy_ends_the_session(
    client: Dominus, server: Server
) -> None:
    ada = await a_user(client)
    first = await login(client, ada)
    second = await client.portal.refresh(refresh_token=first["refresh_token"])
    assert second["session_id"] == first["session_id"]
    assert second["refresh_token"] != first["refresh_token"]
    third = await client.portal.refresh(refresh_token=second["refresh_token"])
    # The first one again, though its successor was used: somebody has a copy.
    assert await code_of(client.portal.refresh(refresh_token=first["refresh_token"])) == "refresh_reused"
    assert await code_of(client.portal.refresh(refresh_token=third["refresh_token"])) == "session_revoked"
    assert await code_of(client.portal.me(user_token=third["access_token"])) == "session_revoked"
    assert await code_of(client.portal.refresh(refresh_token="of-nobody")) == "refresh_invalid"


async def test_a_refresh_whose_answer_was_lost_may_come_again_for_seconds(
    client: Dominus, server: Server
) -> None:
    ada = await a_user(client)
    first = await login(client, ada)
    answers = await asyncio.gather(
        *(client.portal.refresh(refresh_token=first["refresh_token"]) for _ in range(8))
    )
    # All the same one, so that tabs which refresh at once do not end each other's session.
    assert len({each["refresh_token"] for each in answers}) == 1
    late = sessions.GRACE_SECONDS + 1
    await sql(
        server,
        "UPDATE dominus.refresh_tokens SET used_at = used_at - make_interval(secs => $1)",
        late,
    )
    assert await code_of(client.portal.refresh(refresh_token=first["refresh_token"])) == "refresh_reused"
    assert (
        await code_of(client.portal.refresh(refresh_token=answers[0]["refresh_token"])) == "session_revoked"
    )


async def test_an_access_token_refreshes_while_its_session_lasts(client: Dominus, server: Server) -> None:
    ada = await a_user(client)
    session = await login(client, ada)
    user = client.as_user(session["access_token"]).portal
    again = await user.refresh()
    assert again["session_id"] == session["session_id"]
    assert "refresh_token" not in again
    await sql(server, "UPDATE dominus.portal_sessions SET expires_at = now() WHERE subject_id = $1", ada.id)
    assert await code_of(user.refresh()) == "session_revoked"
    assert await code_of(client.portal.refresh(refresh_token=session["refresh_token"])) == "refresh_invalid"


async def test_a_session_that_ends_is_refused_by_every_replica_within_five_seconds(
    client: Dominus, make_server: Make
) -> None:
    other = client_of(await make_server())
    ada = await a_user(client)
    ends: dict[str, Callable[[Dominus, Any], Awaitable[Any]]] = {
        "logout": lambda d, s: d.portal.logout(user_token=s["access_token"]),
        "suspended": lambda d, _: d.auth.users.update(ada.id, status="suspended"),
        "deleted": lambda d, _: d.auth.users.delete(ada.id, force=True),
    }
    for name, end in ends.items():
        if name == "deleted":
            await client.auth.users.update(ada.id, status="active")
        session = await login(client, ada)
        token = session["access_token"]
        assert (await other.portal.me(user_token=token))["subject"] == ada.id
        await end(client, session)
        if name == "logout":
            assert await code_of(client.portal.me(user_token=token)) == "session_revoked"
        # An operation that asks no database for the session: the token itself is refused.
        async with asyncio.timeout(5):
            while await code_of(other.as_user(token).redis.get("k")) != "session_revoked":
                await asyncio.sleep(0.02)


async def test_a_replica_that_hears_no_notification_looks_for_itself(
    client: Dominus, make_server: Make
) -> None:
    deaf = await make_server()
    revocations = deaf.resources.revocations
    deaf.resources.postgres._listener._callbacks.clear()
    ada = await a_user(client)
    session = await login(client, ada)
    other = client_of(deaf).as_user(session["access_token"]).redis
    with pytest.raises(AuthorizationError):
        await other.get("k")
    await client.portal.logout(user_token=session["access_token"])
    assert revocations._keeper is not None
    # Its looks have ended, too: then the database is asked for each.
    revocations._keeper.cancel()
    revocations._looked_at -= 10
    assert await code_of(other.get("k")) == "session_revoked"


async def test_sessions_are_listed_and_ended_by_their_own_user_alone(client: Dominus) -> None:
    ada, bea = await a_user(client), await a_user(client)
    here, there, third = [await login(client, ada) for _ in range(3)]
    foreign = await login(client, bea)
    user = client.as_user(here["access_token"]).portal
    listed = await user.list_sessions()
    assert [each["session_id"] for each in listed] == [each["session_id"] for each in (third, there, here)]
    assert [each["is_current"] for each in listed] == [False, False, True]
    assert await user.revoke_session(there["session_id"])
    assert not await user.revoke_session(there["session_id"])
    with pytest.raises(NotFoundError):
        await user.revoke_session(foreign["session_id"])
    assert await user.revoke_all_sessions() == 1
    assert [each["session_id"] for each in await user.list_sessions()] == [here["session_id"]]
    assert await code_of(client.portal.me(user_token=third["access_token"])) == "session_revoked"
    assert (await client.portal.me(user_token=foreign["access_token"]))["subject"] == bea.id
    assert await user.logout()
    assert await user.logout()  # over already


async def test_the_table_holds_no_token(client: Dominus, server: Server) -> None:
    ada = await a_user(client)
    session = await login(client, ada)
    await client.portal.request_password_reset(ada.email)
    token = await link_of(client, ada.email, "password-reset")
    for table in ("portal_sessions", "refresh_tokens", "one_time_tokens", "login_failures", "outcomes"):
        (row,) = await sql(server, f"SELECT coalesce(string_agg(t::text, ''), '') FROM dominus.{table} t")
        for secret in (session["access_token"], session["refresh_token"], token):
            assert secret not in row[0]
            assert secret.encode().hex() not in row[0]
        # Who mistypes may type the password into the field of the name.
        assert table != "login_failures" or ada.username not in row[0]


async def test_a_token_of_the_gateway_ends_with_the_login_that_it_was_made_of(
    client: Dominus, server: Server
) -> None:
    tokens = server.resources.tokens
    ada = await a_user(client)
    session = await login(client, ada)
    principal = await tokens.verify(session["access_token"])
    native = tokens.mint_session(principal, "postgres", 60)
    assert (await tokens.verify_session(native)).principal.session_id == session["session_id"]
    await client.portal.logout(user_token=session["access_token"])
    with pytest.raises(AuthenticationError) as caught:
        await tokens.verify_session(native)
    assert caught.value.code == "session_revoked"


async def test_what_is_over_for_long_is_forgotten(client: Dominus, server: Server) -> None:
    ada, bea = await a_user(client), await a_user(client)
    for person in (ada, bea):
        await login(client, person)
        await client.portal.request_password_reset(person.email)
    await sql(
        server,
        "UPDATE dominus.portal_sessions SET expires_at = now() - interval '3 days' WHERE subject_id = $1",
        ada.id,
    )
    await sql(
        server,
        "UPDATE dominus.one_time_tokens SET expires_at = now() - interval '8 days' WHERE user_id = $1",
        ada.id,
    )
    assert await purge(server.resources.postgres) >= 2
    left = "SELECT subject_id FROM dominus.portal_sessions WHERE subject_id = ANY ($1::uuid[])"
    assert [str(row[0]) for row in await sql(server, left, [ada.id, bea.id])] == [bea.id]
    links_left = "SELECT user_id FROM dominus.one_time_tokens WHERE user_id = ANY ($1::uuid[])"
    assert [str(row[0]) for row in await sql(server, links_left, [ada.id, bea.id])] == [bea.id]


# --- passwords


async def test_a_password_is_changed_by_who_knows_it_and_other_sessions_end(client: Dominus) -> None:
    ada = await a_user(client)
    here, there = await login(client, ada), await login(client, ada)
    user = client.as_user(here["access_token"]).portal
    assert await code_of(user.change_password("wrong", NEW)) == "login_failed"
    assert await user.change_password(PASSWORD, NEW)
    assert (await user.me())["subject"] == ada.id
    assert await code_of(client.portal.refresh(refresh_token=there["refresh_token"])) == "session_revoked"
    assert await code_of(login(client, ada)) == "login_failed"
    await login(client, ada, NEW)


async def test_guesses_of_the_current_password_lock(client: Dominus) -> None:
    ada = await a_user(client)
    user = client.as_user((await login(client, ada))["access_token"]).portal
    codes = [await code_of(user.change_password("wrong", NEW)) for _ in range(6)]
    assert codes == ["login_failed"] * 5 + ["login_locked"]


async def test_a_change_that_is_sent_again_is_answered_as_the_first_time(
    client: Dominus, server: Server
) -> None:
    ada = await a_user(client)
    session = await login(client, ada)
    body = {"current_password": PASSWORD, "new_password_hash": hash_of(NEW)}
    for _ in range(2):
        reply = await server(
            "POST",
            "/api/portal/security/change-password",
            body,
            token=session["access_token"],
            headers={"idempotency-key": f"change-{ada.username}"},
        )
        assert reply.data == {"success": True}


async def test_a_reset_is_mailed_and_its_link_is_good_once(client: Dominus, server: Server) -> None:
    ada = await a_user(client)
    session = await login(client, ada)
    for _ in range(failures.FREE_TRIES):
        await code_of(login(client, ada, "wrong"))
    assert await client.portal.request_password_reset(ada.email)
    older = await link_of(client, ada.email, "password-reset")
    assert await client.portal.request_password_reset(ada.email.upper())
    token = await link_of(client, ada.email, "password-reset")
    # The newest mail counts.
    assert await code_of(client.portal.confirm_password_reset(older, NEW)) == "mail_link_invalid"
    tries = [client.portal.confirm_password_reset(token, NEW) for _ in range(4)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert results.count(True) == 1
    assert {each.code for each in results if isinstance(each, DominusError)} == {"mail_link_invalid"}
    # All sessions ended, and the lock of before is gone.
    assert await code_of(client.portal.refresh(refresh_token=session["refresh_token"])) == "session_revoked"
    await login(client, ada, NEW)


async def test_links_expire_and_are_of_one_kind(client: Dominus, server: Server) -> None:
    ada = await a_user(client)
    await client.portal.request_password_reset(ada.email)
    token = await link_of(client, ada.email, "password-reset")
    assert await code_of(client.portal.verify_email(token)) == "mail_link_invalid"
    await sql(server, "UPDATE dominus.one_time_tokens SET expires_at = now() WHERE user_id = $1", ada.id)
    assert await code_of(client.portal.confirm_password_reset(token, NEW)) == "mail_link_invalid"


async def test_a_reset_of_a_name_that_nobody_has_looks_the_same(client: Dominus, server: Server) -> None:
    ada, idle = await a_user(client), await a_user(client, status="suspended")
    loop = asyncio.get_running_loop()
    took: dict[str, list[float]] = {ada.email: [], "nobody@example.com": [], idle.email: []}
    for _ in range(3):
        for email, times in took.items():
            began = loop.time()
            assert await client.portal.request_password_reset(email) is True
            times.append(loop.time() - began)
    assert all(each >= links.EVEN_SECONDS - 0.01 for times in took.values() for each in times)
    best = [min(times) for times in took.values()]
    assert max(best) - min(best) < 0.05
    assert await mails_to(client, ada.email) == ["password-reset"] * 3
    assert await mails_to(client, "nobody@example.com") == []
    assert await mails_to(client, idle.email) == []


async def test_nobody_is_mailed_without_end(client: Dominus) -> None:
    ada = await a_user(client)
    for _ in range(links.MAX_MAILS_AN_HOUR + 1):
        assert await client.portal.request_password_reset(ada.email)
    assert len(await mails_to(client, ada.email)) == links.MAX_MAILS_AN_HOUR
    # Nor by who registers again and again.
    tenant = await an_open_tenant(client)
    email = f"often-{tenant['slug']}@example.com"
    for _ in range(links.MAX_MAILS_AN_HOUR + 1):
        await client.portal.register(f"often-{tenant['slug']}", email, PASSWORD, tenant["id"])
    assert len(await mails_to(client, email)) == links.MAX_MAILS_AN_HOUR


async def test_what_a_server_lacks_for_mails_is_said_for_everyone(client: Dominus, make_server: Make) -> None:
    bare = client_of(
        await make_server(courier_backend="smtp", courier_smtp_host="127.0.0.1", courier_smtp_port=1)
    )
    ada = await a_user(client)
    for email in (ada.email, "nobody@example.com"):
        assert await code_of(bare.portal.request_password_reset(email)) == "portal_not_configured"


# --- coming in


async def an_open_tenant(client: Dominus) -> Any:
    ada = await a_user(client, tenants=1)
    return await client.auth.tenants.update(ada.tenants[0]["id"], registration_open=True)


async def test_who_registers_is_active_by_the_link_of_the_mail(client: Dominus) -> None:
    tenant = await an_open_tenant(client)
    name = f"new-{tenant['slug']}"
    email = f"{name}@example.com"
    made = await client.portal.register(name, email, PASSWORD, tenant["slug"])
    assert made == {
        "user": {"username": name, "email": email, "status": "inactive"},
        "verification_status": "pending",
    }
    assert await code_of(client.portal.login(name, PASSWORD)) == "login_failed"
    assert await client.portal.resend_verification(email)
    token = await link_of(client, email, "email-verification")
    assert await client.portal.verify_email(token)
    assert await code_of(client.portal.verify_email(token)) == "mail_link_invalid"
    session = await client.portal.login(name, PASSWORD)
    assert (session["tenant"]["id"], session["user"]["email_verified"]) == (tenant["id"], True)
    await client.portal.resend_verification(email)
    assert (await mails_to(client, email)).count("email-verification") == 2


async def test_a_tenant_that_is_not_open_registers_nobody(client: Dominus) -> None:
    ada = await a_user(client, tenants=1)
    for named in (ada.tenants[0]["id"], ada.tenants[0]["slug"], "no-such-tenant"):
        call = client.portal.register("somebody", "somebody@example.com", PASSWORD, named)
        assert await code_of(call) == "registration_closed"
    assert await mails_to(client, "somebody@example.com") == []


async def test_what_is_taken_is_told_by_mail_alone(client: Dominus) -> None:
    tenant = await an_open_tenant(client)
    ada = await a_user(client)
    fresh = f"fresh-{tenant['slug']}"
    answers = [
        await client.portal.register(name, email, PASSWORD, tenant["id"])
        for name, email in (
            (fresh, ada.email),
            (ada.username, f"{fresh}@example.com"),
            (fresh, f"{fresh}@a.example"),
        )
    ]
    assert {(each["user"]["status"], each["verification_status"]) for each in answers} == {
        ("inactive", "pending")
    }
    assert await mails_to(client, ada.email) == ["registration-notice"]
    assert await mails_to(client, f"{fresh}@example.com") == ["registration-notice"]
    assert await mails_to(client, f"{fresh}@a.example") == ["email-verification"]
    await login(client, ada)  # its password is its own
    with pytest.raises(ValidationError):
        await client.portal.register("with@sign", "x@example.com", PASSWORD, tenant["id"])


async def test_who_registers_again_voids_what_was_before(client: Dominus) -> None:
    tenant = await an_open_tenant(client)
    name = f"twice-{tenant['slug']}"
    email = f"{name}@example.com"
    await client.portal.register(name, email, "of somebody else", tenant["id"])
    first = await link_of(client, email, "email-verification")
    await client.portal.register(name, email, PASSWORD, tenant["id"])
    assert await code_of(client.portal.verify_email(first)) == "mail_link_invalid"
    await client.portal.verify_email(await link_of(client, email, "email-verification"))
    await client.portal.login(name, PASSWORD)


async def test_an_admin_who_suspends_a_user_who_registered_keeps_it_suspended(client: Dominus) -> None:
    tenant = await an_open_tenant(client)
    name = f"bad-{tenant['slug']}"
    email = f"{name}@example.com"
    await client.portal.register(name, email, PASSWORD, tenant["id"])
    found = [user async for user in client.auth.users.iterate() if user["email"] == email]
    await client.auth.users.update(found[0]["id"], status="suspended")
    await client.portal.verify_email(await link_of(client, email, "email-verification"))
    assert await code_of(client.portal.login(name, PASSWORD)) == "login_failed"


async def test_who_is_invited_comes_in_with_the_roles_and_a_password(client: Dominus) -> None:
    ada = await a_user(client, tenants=1)
    role = await client.auth.roles.create(f"guest-{ada.username}")
    email = f"guest-{ada.email}"
    made = await client.portal.create_invitation(email, ada.tenants[0]["id"], [role["id"]])
    assert "token" not in str(made)
    token = await link_of(client, email, "invitation")
    session = await client.portal.accept_invitation(token, PASSWORD)
    assert (session["user"]["email"], session["user"]["email_verified"]) == (email, True)
    assert session["tenant"]["id"] == ada.tenants[0]["id"]
    assert (await client.portal.me(user_token=session["access_token"]))["roles"] == [role["name"]]
    assert await code_of(client.portal.accept_invitation(token, PASSWORD)) == "mail_link_invalid"
    await client.portal.login(email, PASSWORD)


async def test_who_has_the_address_already_is_asked_for_its_own_password(client: Dominus) -> None:
    ada, bea = await a_user(client, tenants=1), await a_user(client)
    await client.portal.create_invitation(bea.email, ada.tenants[0]["id"])
    token = await link_of(client, bea.email, "invitation")
    assert await code_of(client.portal.accept_invitation(token, "another one")) == "login_failed"
    session = await client.portal.accept_invitation(token, PASSWORD)
    assert (session["user"]["id"], session["tenant"]["id"]) == (bea.id, ada.tenants[0]["id"])


async def test_an_invitation_names_what_is_there(client: Dominus) -> None:
    ada = await a_user(client, tenants=1)
    missing = "6f1ed002-ab5a-4d4f-9d1c-0d2a3b4c5d6e"
    with pytest.raises(NotFoundError):
        await client.portal.create_invitation("x@example.com", missing)
    with pytest.raises(NotFoundError):
        await client.portal.create_invitation("x@example.com", ada.tenants[0]["id"], [missing])


# --- profile, preferences, navigation


async def test_profile_and_preferences_keep_what_is_not_sent(client: Dominus) -> None:
    ada = await a_user(client)
    user = client.as_user((await login(client, ada))["access_token"]).portal
    assert (await user.get_profile())["display_name"] is None
    await user.update_profile(display_name="Ada", bio="Counts.", extra={"n": [1, None]})
    profile = await user.update_profile(bio="", phone="+44 1")
    assert profile == await user.get_profile()
    assert (profile["display_name"], profile["bio"], profile["phone"]) == ("Ada", None, "+44 1")
    assert (profile["extra"], profile["user_id"], profile["email"]) == ({"n": [1, None]}, ada.id, ada.email)
    assert (await user.get_preferences())["theme"] == "system"
    await user.update_preferences(theme="dark", notifications_enabled=False)
    preferences = await user.update_preferences(timezone="Europe/London", sidebar_collapsed=True)
    assert preferences == {
        "theme": "dark",
        "language": "en",
        "timezone": "Europe/London",
        "sidebar_collapsed": True,
        "notifications_enabled": False,
        "email_notifications": True,
        "extra": {},
    }
    assert await user.get_preferences() == preferences
    assert await user.update_preferences() == preferences
    with pytest.raises(ValidationError):
        await user.update_preferences(theme="pink")
    with pytest.raises(ValidationError):
        await user.update_profile(extra={"long": "x" * 20_000})


async def test_the_navigation_is_that_of_the_active_tenant(client: Dominus) -> None:
    ada = await a_user(client, tenants=2)
    tag = ada.username
    here, there = ada.tenants
    role = await client.auth.roles.create(f"intern-{tag}")
    pages = {
        name: await client.auth.pages.create(f"/{tag}/{name}", name)
        for name in ("all", "here", "there", "not")
    }
    await client.auth.pages.tenants.set(pages["here"]["id"], [here["id"]])
    await client.auth.pages.tenants.set(pages["there"]["id"], [there["id"]])
    await client.auth.pages.excluded_roles.set(pages["not"]["id"], [role["id"]])
    top = await client.auth.nav_items.create(f"Top {tag}", item_type="group_label")
    for number, (name, page) in enumerate(pages.items()):
        await client.auth.nav_items.create(name, page_id=page["id"], parent_id=top["id"], sort_order=number)

    async def seen(token: str) -> list[str]:
        tree = await client.portal.get_navigation(user_token=token)
        (mine,) = [item for item in tree["items"] if item["title"] == f"Top {tag}"]
        return [child["title"] for child in mine["children"]]

    async def opens(token: str) -> list[str]:
        return [
            name
            for name in pages
            if await client.portal.check_page_access(f"/{tag}/{name}", user_token=token)
        ]

    token = (await login(client, ada, tenant_id=here["id"]))["access_token"]
    assert await seen(token) == await opens(token) == ["all", "here", "not"]
    moved = (await client.portal.switch_tenant(there["id"], user_token=token))["access_token"]
    assert await seen(moved) == await opens(moved) == ["all", "there", "not"]
    await client.auth.users.roles.add(ada.id, [role["id"]])
    assert await seen(moved) == await opens(moved) == ["all", "there"]
    assert not await client.portal.check_page_access("/nowhere", user_token=moved)


async def test_no_secret_is_in_a_repr() -> None:
    from dominus.contract import portal as contract

    said = repr(contract.LoginRequest(username="ada", password="s3cret-password"))  # pyright: ignore[reportCallIssue]
    said += repr(contract.RefreshRequest(refresh_token="s3cret-token"))
    assert "s3cret" not in said


async def test_a_token_says_nothing_that_jwt_libraries_refuse(client: Dominus, server: Server) -> None:
    session = await login(client, await a_user(client))
    pem = server.resources.tokens.public_pem()
    claims = jwt.decode(session["access_token"], pem, algorithms=["RS256"])
    assert isinstance(claims["sub"], str)


async def test_the_same_invitation_is_of_one_user(client: Dominus) -> None:
    ada = await a_user(client, tenants=1)
    email = f"one-{ada.email}"
    await client.portal.create_invitation(email, ada.tenants[0]["id"])
    token = await link_of(client, email, "invitation")
    tries = [client.portal.accept_invitation(token, PASSWORD) for _ in range(3)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(each, dict) for each in results) == 1
    refused = [each for each in results if isinstance(each, Exception)]
    assert all(isinstance(each, (ValidationError, ConflictError)) for each in refused)
