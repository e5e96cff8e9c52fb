"""Records and links on the side of the client: what is sent, and what other servers may answer."""

from __future__ import annotations

import inspect
import operator
import re
from typing import Any

import pytest
from conftest import MakeRig
from pydantic import TypeAdapter

from dominus import Dominus
from dominus.contract.guardian import ENTITIES, LINKS, guardian
from dominus.contract.guardian.records import EntityCalls, Id
from dominus.crypto import verify_password
from dominus.errors import ServiceError, ValidationError
from dominus.namespaces.guardian.account_names import AccountNames
from dominus.namespaces.guardian.link_names import LinkNames
from dominus.namespaces.guardian.names import EntityNames
from dominus.testing import failure, ok

ID = "6f1ed002-ab5a-4d4f-9d1c-0d2a3b4c5d6e"


def roles(*names: str) -> list[dict[str, Any]]:
    at = "2026-01-01T00:00:00+00:00"
    return [
        {"id": ID, "name": name, "description": None, "created_at": at, "updated_at": at} for name in names
    ]


async def test_only_what_is_given_is_sent(make_rig: MakeRig):
    rig = make_rig(ok(roles("a")[0]), ok(roles("a")[0]), ok({"id": ID, "deleted": True}))
    await rig.client.auth.roles.create("a")
    await rig.client.auth.roles.update(ID, description="")
    await rig.client.auth.roles.delete(ID)
    assert [call.body for call in rig.server.calls] == [{"name": "a"}, {"description": ""}, {}]


async def test_a_new_password_travels_as_its_hash_alone(make_rig: MakeRig):
    user = {**roles("a")[0], "username": "ada", "email": "ada@example.com", "status": "active"}
    rig = make_rig(ok(user), ok({"id": ID, "updated": True}), ok({"valid": True}))
    await rig.client.auth.create_user("ada", "ada@example.com", "correct horse")
    await rig.client.auth.update_password(ID, "correct horse")
    for call in rig.server.calls:
        assert "correct horse" not in str(call)
        assert call.body.keys() <= {"username", "email", "status", "password_hash"}
        assert verify_password("correct horse", call.body["password_hash"])
    assert len({call.body["password_hash"] for call in rig.server.calls}) == 2
    assert await rig.client.auth.verify_password(ID, "correct horse") is True


async def test_a_walk_over_another_server_counts_where_it_is(make_rig: MakeRig):
    pages = [roles("a", "b"), roles("c", "d"), roles("e")]
    rig = make_rig(*(ok({"items": page, "total": 5}) for page in pages), is_foreign=True)
    assert [role["name"] async for role in rig.client.auth.roles.iterate(2)] == list("abcde")
    assert [call.query["offset"] for call in rig.server.calls] == ["0", "2", "4"]


async def test_a_list_of_links_is_a_bare_list(make_rig: MakeRig):
    rig = make_rig(ok([]), ok({"items": []}))
    assert await rig.client.auth.roles.scopes.list(ID) == []
    with pytest.raises(ServiceError, match="no list"):
        await rig.client.auth.roles.scopes.list(ID)


async def test_when_records_fail_calls_still_get_their_tokens(make_rig: MakeRig):
    rig = make_rig(default=failure(500))
    while rig.breaker("guardian") == "closed":
        with pytest.raises(ServiceError):
            await rig.client.auth.roles.list(timeout=1)
    assert rig.breaker("auth") == "closed"


@pytest.mark.parametrize("wrong", ["", "x", "../roles", 7, None, ID[:-1], f"{ID}\n1"])
def test_what_is_no_id_is_refused_before_it_is_sent(wrong: Any):
    for calls in ENTITIES:
        with pytest.raises(ValidationError, match=calls.entity.id_field):
            calls.get.request(**{calls.entity.id_field: wrong})


def test_an_id_has_one_form_on_the_wire():
    assert TypeAdapter(Id).validate_python(ID.upper()) == ID


def test_each_row_of_the_table_is_five_operations_or_three():
    sets = [op for op in guardian.operations if op.name.startswith("auth.set_")]
    changed = [calls for calls in ENTITIES if isinstance(calls, EntityCalls)]
    more = 4  # passwords and keys
    assert len(guardian.operations) == 4 * len(ENTITIES) + len(changed) + 3 * len(LINKS) + len(sets) + more
    assert {op.scope for op in guardian.operations} == {"auth:read", "auth:write"}


def test_a_flat_name_says_what_it_calls_and_takes_the_same():
    auth = Dominus("http://dominus.test", "x" * 43).auth
    flat = [
        getattr(auth, name)
        for owner in (EntityNames, LinkNames, AccountNames)
        for name, member in vars(owner).items()
        if inspect.iscoroutinefunction(member) and member.__module__ == owner.__module__
    ]
    changed = [calls for calls in ENTITIES if isinstance(calls, EntityCalls)]
    # create and update are assignments, and so is what is done with passwords and keys
    assert len(flat) == len(guardian.operations) - len(ENTITIES) - len(changed) - 4
    for method in flat:
        told = re.fullmatch(r"[A-Z].*: `([\w.]+)`\.", inspect.getdoc(method) or "")
        assert told, method.__name__
        target = operator.attrgetter(told[1])(auth)
        assert inspect.getdoc(target)
        taken = [inspect.signature(each).parameters for each in (method, target)]
        assert taken[0].keys() >= {name for name in taken[1] if name not in {"record_id", "owner_id", "ids"}}
        assert len(taken[0]) == len(taken[1])
