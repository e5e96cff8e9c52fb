"""What is stored of passwords and keys, and that it verifies nothing by itself."""

from __future__ import annotations

import os
import time
from typing import Any

import bcrypt
import pytest

from dominus.contract.guardian.accounts import USERS, UpdatePassword, VerifyPassword, VerifyPsk
from dominus.errors import ValidationError
from dominus.namespaces.guardian.hashing import hashed_password
from dominus.orchestrator.identity.passwords import Passwords, new_psk_nonce, psk_digest, psk_of
from dominus.orchestrator.identity.vault import Vault

ID = "6f1ed002-ab5a-4d4f-9d1c-0d2a3b4c5d6e"


class OneKey:
    """A database of no data keys: the vault makes the first."""

    def __init__(self) -> None:
        self.row: dict[str, object] | None = None

    async def fetchrow(self, *_: object) -> object:
        return self.row

    async def fetch(self, *_: object) -> list[object]:
        return []

    async def execute(self, _sql: str, _project: str, _environment: str, wrapped: bytes, master: str) -> str:
        self.row = {"id": 1, "wrapped": wrapped, "master_id": master}
        return "INSERT 1"


@pytest.fixture
async def vault() -> Vault:
    made = Vault([os.urandom(32)])
    await made.start(OneKey())  # pyright: ignore[reportArgumentType]
    return made


async def test_a_password_that_came_raw_and_one_that_came_hashed_are_both_verified(vault: Vault):
    passwords = Passwords(vault)
    raw = await passwords.store("pässword", None)
    hashed = await passwords.store(None, await hashed_password("pässword"))
    assert raw.salt != hashed.salt
    for stored in (raw, hashed):
        assert stored.salt.startswith("$2b$12$")
        assert len(stored.salt) == 29
        assert await passwords.verify("pässword", stored)
        assert not await passwords.verify("password", stored)


async def test_what_is_stored_is_no_hash_and_verifies_nothing_under_another_key(vault: Vault):
    password_hash = await hashed_password("secret")
    stored = await Passwords(vault).store(None, password_hash)
    assert password_hash[29:].encode() not in stored.digest
    assert repr(stored.digest) not in repr(stored)
    # The stolen row, replayed as if it were a password.
    assert not await Passwords(vault).verify(stored.digest.hex(), stored)
    other = Vault([os.urandom(32)])
    await other.start(OneKey())  # pyright: ignore[reportArgumentType]
    assert not await Passwords(other).verify("secret", stored)


async def test_nobody_has_no_password_and_costs_the_same(vault: Vault):
    passwords = Passwords(vault)
    stored = await passwords.store("secret", None)
    assert not await passwords.verify("secret", None)
    assert not await passwords.verify("x" * 73, stored)
    took: dict[str, float] = {}
    for name, given, known in (
        ("known", "secret", stored),
        ("nobody", "secret", None),
        ("long", "x" * 99, stored),
    ):
        begun = time.thread_time_ns(), time.process_time()
        await passwords.verify(given, known)
        took[name] = time.process_time() - begun[1]
    assert min(took.values()) > 0.4 * max(took.values()), took


@pytest.mark.parametrize("given", [(None, None), ("a", "$2b$12$" + "a" * 53)])
async def test_a_password_comes_in_one_form(given: tuple[str | None, str | None], vault: Vault):
    with pytest.raises(ValidationError, match="password"):
        await Passwords(vault).store(*given)


@pytest.mark.parametrize("wrong", ["", "x" * 73, "ä" * 37, "a\0b", "\ud800", 7, None])
async def test_a_password_that_bcrypt_would_cut_is_refused_on_both_sides(wrong: object):
    with pytest.raises(ValidationError, match="password"):
        await hashed_password(wrong)  # pyright: ignore[reportArgumentType]
    if wrong is None:
        return
    for model, fields in (
        (USERS.create.request, {"username": "ada", "email": "ada@example.com"}),
        (UpdatePassword, {"user_id": ID}),
    ):
        given: Any = wrong
        with pytest.raises(ValidationError, match="password"):
            model(**fields, password=given)


async def test_every_byte_of_the_longest_password_counts(vault: Vault):
    passwords = Passwords(vault)
    longest = "ä" * 35 + "xy"
    assert len(longest.encode()) == 72
    stored = await passwords.store(None, await hashed_password(longest))
    assert await passwords.verify(longest, stored)
    assert not await passwords.verify(longest[:-1] + "z", stored)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "secret",
        "$2b$04$" + "." * 53,
        "$2b$31$" + "." * 53,
        "$2b$12$" + "." * 52,
        "$2b$12$" + "." * 54,
        "$2b$12$" + "!" * 53,
        "$2b$12$" + "." * 21 + "a" + "." * 31,
        "$2b$12$" + "." * 53 + "\n",
        "$argon2id$v=19$m=65536,t=3,p=4$" + "." * 53,
    ],
)
def test_only_a_bcrypt_hash_of_a_sensible_cost_is_taken(wrong: str):
    with pytest.raises(ValidationError, match="password_hash"):
        UpdatePassword(user_id=ID, password_hash=wrong)


@pytest.mark.parametrize("version", [b"2a", b"2b", b"2y"])
async def test_hashes_of_other_programs_are_verified(version: bytes, vault: Vault):
    passwords = Passwords(vault)
    theirs = bcrypt.hashpw(b"secret", bcrypt.gensalt(10)).replace(b"$2b$", b"$%b$" % version).decode()
    stored = await passwords.store(None, theirs)
    assert await passwords.verify("secret", stored)


def test_no_repr_shows_a_password_or_a_key():
    shown = [
        repr(USERS.create.request(username="a", email="a@b.de", password="s3cret")),
        repr(UpdatePassword(user_id=ID, password="s3cret")),
        repr(VerifyPassword(user_id=ID, password="s3cret")),
        repr(VerifyPsk(client_id=ID, psk="s3cret")),
    ]
    assert "s3cret" not in str(shown)


async def test_a_key_is_made_of_its_nonce_and_the_vault(vault: Vault):
    nonce = new_psk_nonce()
    psk = psk_of(vault, nonce)
    assert (len(psk), psk) == (43, psk_of(vault, nonce))
    assert psk != psk_of(vault, new_psk_nonce())
    assert psk_digest(vault, psk) == psk_digest(vault, psk)
    assert psk_digest(vault, psk).hex() not in {psk, nonce}
    other = Vault([os.urandom(32)])
    await other.start(OneKey())  # pyright: ignore[reportArgumentType]
    assert psk_of(other, nonce) != psk
