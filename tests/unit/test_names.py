"""Calls by name reach every operation of the contract."""

from __future__ import annotations

import inspect

import pytest
from conftest import MakeRig

from dominus import Dominus
from dominus.contract import operations
from dominus.errors import ValidationError
from dominus.names import METHOD_OF, callable_names
from dominus.testing import ok


@pytest.mark.parametrize("name", sorted(operations()))
def test_every_operation_has_a_documented_asynchronous_method(name: str):
    method: object = Dominus()
    for part in METHOD_OF.get(name, name).split("."):
        method = getattr(method, part)
    assert inspect.getdoc(method)
    if inspect.signature(method).return_annotation == "Logged":
        # A line is taken at the call: there is nothing to wait for.
        return
    is_lines = (op := operations().get(name)) is not None and op.is_lines
    assert (
        inspect.isasyncgenfunction(inspect.unwrap(method))
        if is_lines
        else inspect.iscoroutinefunction(method)
    )
    assert "timeout" in inspect.signature(method).parameters


@pytest.mark.parametrize("name", callable_names())
def test_every_name_that_is_offered_is_a_method(name: str):
    method: object = Dominus()
    for part in METHOD_OF.get(name, name).split("."):
        method = getattr(method, part)
    assert callable(method)


async def test_a_call_by_name_is_the_method_call(make_rig: MakeRig):
    rig = make_rig(ok({"secret": {"key": "K", "value": "v"}}), ok({"stored": True}))
    assert await rig.client("secrets.get", key="K") == "v"
    assert await rig.client("redis.set", key="k", value=1, ttl=60) is True
    assert rig.server.calls[0].body == {"action": "get", "key": "K"}
    assert rig.server.calls[1].body["ttl_seconds"] == 60


@pytest.mark.parametrize(
    ("wrong", "near"), [("redis.gett", "redis.get"), ("secret.get", "secrets.get"), ("db.qeury", "db.query")]
)
async def test_an_unknown_name_suggests_the_nearest(wrong: str, near: str):
    with pytest.raises(ValidationError) as caught:
        await Dominus()(wrong)
    assert near in str(caught.value)


@pytest.mark.parametrize(
    "name", ["", "redis", "redis.__class__", "aclose", "_caller.core", "redis._call", "__init__"]
)
async def test_only_operations_can_be_named(name: str):
    with pytest.raises(ValidationError, match="no operation"):
        await Dominus()(name)
