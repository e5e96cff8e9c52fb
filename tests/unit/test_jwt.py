"""`auth.validate_jwt`: which keys it asks for, how often, what it remembers, and what it costs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import jwt
import pytest
from conftest import MakeRig, Rig
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from forged_tokens import signed

from dominus.errors import AuthenticationError, DominusTimeoutError, ServiceError, ValidationError
from dominus.testing import failure, hang, ok
from dominus.transport import verifier as module

KEYS = [generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]


def jwk(number: int, **changes: Any) -> dict[str, Any]:
    found = jwt.algorithms.RSAAlgorithm.to_jwk(KEYS[number].public_key(), as_dict=True)
    return {"kty": "RSA", "kid": f"key-{number}", "n": found["n"], "e": found["e"], **changes}


def key_set(*numbers: int) -> Any:
    return ok({"keys": [jwk(number) for number in numbers]})


def token(number: int = 0, *, key: RSAPrivateKey | None = None, **changes: Any) -> str:
    now = int(time.time())
    claims = {"iss": "dominus", "sub": "ada", "use": "user", "scopes": ["a"], "iat": now, "exp": now + 900}
    return signed(key or KEYS[number], claims | changes, {"kid": f"key-{number}"})


def fetches(rig: Rig) -> int:
    return len([request for request in rig.server.requests if request.path == "/api/warden/jwks"])


async def test_keys_are_fetched_once_however_many_wait_and_without_a_token(make_rig: MakeRig) -> None:
    rig = make_rig(key_set(0))
    found = await asyncio.gather(*(rig.client.auth.validate_jwt(token()) for _ in range(20)))
    assert [claims["sub"] for claims in found] == ["ada"] * 20
    view = rig.client.as_user("a.b.c")
    assert (await view.auth.validate_jwt(token(sub="bob")))["sub"] == "bob"
    assert fetches(rig) == 1
    assert "authorization" not in rig.server.requests[0].headers


async def test_an_unknown_key_is_asked_for_once_in_five_seconds(make_rig: MakeRig) -> None:
    rig = make_rig(key_set(0), key_set(0, 1))
    await rig.client.auth.validate_jwt(token(0))
    for _ in range(3):
        with pytest.raises(AuthenticationError, match="unknown key"):
            await rig.client.auth.validate_jwt(token(1))
    assert fetches(rig) == 1
    await rig.clock.advance(5)
    found = await asyncio.gather(*(rig.client.auth.validate_jwt(token(1)) for _ in range(5)))
    assert len(found) == 5
    assert fetches(rig) == 2


async def test_a_withdrawn_key_is_forgotten_with_all_that_it_signed(make_rig: MakeRig) -> None:
    rig = make_rig(key_set(0, 1), key_set(1))
    await rig.client.auth.validate_jwt(token(0))
    await rig.clock.advance(module.REFRESH_SECONDS)
    # The one who comes first does not wait for it.
    await rig.client.auth.validate_jwt(token(0))
    for _ in range(100):
        await asyncio.sleep(0)
    with pytest.raises(AuthenticationError):
        await rig.client.auth.validate_jwt(token(0))
    assert await rig.client.auth.validate_jwt(token(1))
    assert fetches(rig) == 2


async def test_known_keys_go_on_serving_when_they_cannot_be_fetched_again(make_rig: MakeRig) -> None:
    rig = make_rig(key_set(0), default=failure(400))
    await rig.client.auth.validate_jwt(token(0))
    await rig.clock.advance(module.REFRESH_SECONDS)
    for _ in range(20):
        await rig.client.auth.validate_jwt(token(0))
        await asyncio.sleep(0)
    assert fetches(rig) == 2


async def test_a_server_that_is_away_is_no_wrong_token(make_rig: MakeRig) -> None:
    rig = make_rig(failure(500), failure(500), failure(500), failure(500), key_set(0))
    with pytest.raises(ServiceError):
        await rig.client.auth.validate_jwt(token())
    # What failed is tried again at the next call, not five seconds later.
    assert await rig.client.auth.validate_jwt(token())


async def test_each_waits_for_the_keys_no_longer_than_it_wants(make_rig: MakeRig) -> None:
    rig = make_rig(hang(), auto=False)
    patient = asyncio.create_task(rig.client.auth.validate_jwt(token()))
    with pytest.raises(DominusTimeoutError) as caught:
        await rig.client.auth.validate_jwt(token(), timeout=0.05)
    assert caught.value.endpoint == "auth.get_jwks"
    with rig.client.deadline(5), pytest.raises(ValidationError, match="timeout"):
        await rig.client.auth.validate_jwt(token(), timeout=-1)
    patient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await patient


async def test_a_remembered_token_ends_on_time(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = make_rig(key_set(0))
    given = token()
    await rig.client.auth.validate_jwt(given)
    verifier = rig.client._caller.core.verifier
    assert verifier is not None
    monkeypatch.setattr(verifier, "_now", lambda: time.time() + 900 + 29)
    await rig.client.auth.validate_jwt(given)
    monkeypatch.setattr(verifier, "_now", lambda: time.time() + 900 + 31)
    with pytest.raises(AuthenticationError) as caught:
        await rig.client.auth.validate_jwt(given)
    assert caught.value.code == "token_expired"


async def test_who_changes_the_claims_changes_them_for_nobody_else(make_rig: MakeRig) -> None:
    rig = make_rig(key_set(0))
    given = token()
    for _ in range(3):
        claims = await rig.client.auth.validate_jwt(given)
        assert claims["scopes"] == ["a"]
        claims["scopes"].append("*")


async def test_what_is_remembered_is_bounded_and_holds_no_token(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 3)
    rig = make_rig(key_set(0))
    given = [token(jti=str(number)) for number in range(10)]
    for each in given:
        await rig.client.auth.validate_jwt(each)
    verifier = rig.client._caller.core.verifier
    assert verifier is not None
    assert len(verifier._young) + len(verifier._old) <= 6
    assert not [each for each in given if each in repr((verifier._young, verifier._old))]


async def test_a_closed_client_forgets_the_keys(make_rig: MakeRig) -> None:
    rig = make_rig(key_set(0), key_set(1))
    await rig.client.auth.validate_jwt(token(0))
    await rig.client.aclose()
    with pytest.raises(AuthenticationError):
        await rig.client.auth.validate_jwt(token(0))


async def test_keys_can_be_fetched_ahead(make_rig: MakeRig) -> None:
    rig = make_rig(key_set(0))
    await rig.client.auth.fetch_keys()
    await rig.client.auth.fetch_keys()
    await rig.client.auth.validate_jwt(token())
    assert fetches(rig) == 1


async def test_keys_of_other_kinds_are_passed_over(make_rig: MakeRig) -> None:
    others = [
        {"kty": "EC", "kid": "key-1", "crv": "P-256", "x": "AA", "y": "AA"},
        jwk(1, use="enc"),
        jwk(1, alg="RS512"),
        {"kty": "RSA", "kid": "key-1", "n": "AQAB", "e": "AQAB"},
        {"kty": "RSA", "kid": "key-1"},
    ]
    rig = make_rig(ok({"keys": [*others, jwk(0)]}))
    assert await rig.client.auth.validate_jwt(token(0))
    with pytest.raises(AuthenticationError):
        await rig.client.auth.validate_jwt(token(1))


@pytest.mark.parametrize("answer", [{"keys": [{}]}, {"keys": [5]}, {"keys": None}, {"keys": "no"}])
async def test_an_answer_that_is_no_key_set_is_the_servers_fault(make_rig: MakeRig, answer: Any) -> None:
    with pytest.raises(ServiceError):
        await make_rig(default=ok(answer)).client.auth.validate_jwt(token())


async def test_the_issuer_of_another_server_is_not_known(make_rig: MakeRig) -> None:
    # Servers of the published client promise neither `iss` nor `use`.
    rig = make_rig(key_set(0), is_foreign=True)
    assert await rig.client.auth.validate_jwt(token(iss="https://elsewhere.example", use="portal"))
    with pytest.raises(AuthenticationError):
        await rig.client.auth.validate_jwt(token(aud="elsewhere"))


@pytest.mark.parametrize(
    "garbage",
    ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "\u00fc.\u00fc.\u00fc", "\ud800.a.b", "A" * 9000, "psk" * 20, None, b"a.b.c", 5],
)  # fmt: skip
async def test_garbage_is_malformed_and_nobody_is_asked(make_rig: MakeRig, garbage: Any) -> None:
    rig = make_rig()
    with pytest.raises(AuthenticationError) as caught:
        await rig.client.auth.validate_jwt(garbage)
    assert caught.value.code == "token_malformed"
    assert fetches(rig) == 0


async def test_a_token_that_was_seen_costs_less_than_a_hundred_microseconds(make_rig: MakeRig) -> None:
    rig = make_rig(key_set(0))
    auth, given = rig.client.auth, token()
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(100):
            await auth.validate_jwt(given)
        best = min(best, (time.perf_counter() - began) / 100)
    # About 5 us here.
    assert best < 100e-6
