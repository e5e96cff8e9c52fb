"""crypto: hashes that verify, long passwords that count to the last byte, boxes that stay shut."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import subprocess
import sys
import threading
import time

import bcrypt
import pytest

from dominus import crypto
from dominus.crypto import (
    SecretBox,
    ahash_password,
    averify_password,
    generate_token,
    hash_password,
    hash_psk,
    verify_password,
    verify_psk,
)
from dominus.errors import ValidationError


@pytest.fixture(autouse=True)
def cheap_bcrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crypto, "_BCRYPT_ROUNDS", 4)


def foreign(password: bytes) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


def test_passwords_cost_what_the_published_client_spends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert hash_password("s3cret").startswith("$2b$12$")


@pytest.mark.parametrize(
    "password", ["s3cret", "pässwörd ✓", "a" * 71, "a" * 72, "a" * 5000, "nul\0nul", " "]
)
def test_a_password_verifies_and_another_does_not(password: str) -> None:
    hashed = hash_password(password)
    assert password not in hashed or password == " "
    assert verify_password(password, hashed)
    assert not verify_password(password + "x", hashed)
    assert not verify_password(password[:-1] + "y", hashed)
    assert not verify_password("", hashed)


def test_every_byte_of_a_long_password_counts() -> None:
    assert not verify_password("a" * 100 + "x", hash_password("a" * 100 + "y"))
    assert not verify_password("a" * 73, hash_password("a" * 72))
    assert not verify_password("é" * 36 + "x", hash_password("é" * 36))


def test_a_nul_does_not_end_a_password() -> None:
    # Plain bcrypt takes these two for one password.
    assert bcrypt.checkpw(b"ab\0ab", foreign(b"ab").encode())
    assert not verify_password("ab\0ab", hash_password("ab"))
    assert not verify_password("ab", hash_password("ab\0ab"))


def test_short_hashes_are_plain_bcrypt_and_foreign_ones_verify() -> None:
    assert bcrypt.checkpw(b"s3cret", hash_password("s3cret").encode())
    assert verify_password("s3cret", foreign(b"s3cret"))
    assert verify_password("s3cret", foreign(b"s3cret").replace("$2b$", "$2a$"))
    # What others' bcrypt made of a long password, it made of 72 bytes.
    assert verify_password("a" * 80, foreign(b"a" * 72))


def test_the_prehash_itself_is_no_password() -> None:
    long = "a" * 100
    inner = crypto._prehashed(long.encode()).decode()
    assert not verify_password(inner, hash_password(long))


@pytest.mark.parametrize("hashed", ["", "garbage", "$2b$12$short", "a" * 60, "$dominus-sha256-v1", "ü"])
def test_what_is_no_hash_is_said_without_showing_it(hashed: str) -> None:
    for verify in (verify_password, verify_psk):
        with pytest.raises(ValidationError, match="no bcrypt hash") as caught:
            verify("s3cret", hashed)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_empty_text_and_lone_surrogates_are_refused(text: str) -> None:
    for make in (hash_password, hash_psk):
        with pytest.raises(ValidationError):
            make(text)
    assert not verify_password(text, foreign(b"x"))
    assert not verify_psk(text, "0" * 64)


async def test_async_hashing_leaves_the_loop_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    real = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda *args: threads.append(threading.get_ident()) or real(*args))
    hashed = await ahash_password("s3cret")
    assert await averify_password("s3cret", hashed)
    assert not await averify_password("other", hashed)
    assert len(threads) == 2
    assert threading.get_ident() not in threads


def test_a_psk_is_a_sha256_and_foreign_bcrypt_verifies() -> None:
    psk = generate_token()
    assert hash_psk(psk) == hashlib.sha256(psk.encode()).hexdigest()
    assert verify_psk(psk, hash_psk(psk))
    assert not verify_psk(psk + "x", hash_psk(psk))
    assert verify_psk(psk, foreign(psk.encode()))
    assert not verify_psk("other" * 10, foreign(psk.encode()))


def test_a_psk_that_may_be_guessed_gets_a_slow_hash() -> None:
    assert hash_psk("summer2024").startswith("$2b$")
    assert verify_psk("summer2024", hash_psk("summer2024"))


def test_tokens_are_random_urlsafe_and_long_enough() -> None:
    assert len(generate_token()) == 43
    assert len({generate_token() for _ in range(100)}) == 100
    assert all(c.isalnum() or c in "-_" for c in generate_token(200))
    with pytest.raises(ValidationError, match="guessed"):
        generate_token(8)


def test_a_box_opens_what_it_sealed_and_nothing_else() -> None:
    box = SecretBox("the psk", "token")
    sealed = box.seal(b"payload")
    assert b"payload" not in sealed
    assert sealed != box.seal(b"payload")
    assert box.open(sealed) == b"payload"
    assert SecretBox("the psk", "token").open(sealed) == b"payload"
    assert box.open(box.seal(b"")) == b""
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    others = [SecretBox("the psk", "secrets"), SecretBox("other psk", "token")]
    for opener, data in [(box, changed), (box, b""), (box, sealed[:13]), *((o, sealed) for o in others)]:
        with pytest.raises(ValidationError):
            opener.open(data)


def test_a_box_shows_nothing_and_is_not_pickled() -> None:
    box = SecretBox("the psk", "token")
    assert repr(box) == str(box) == "SecretBox(...)"
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(box)


def test_a_box_costs_microseconds() -> None:
    box, data = SecretBox("the psk", "token"), b"x" * 700
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(200):
            box.open(box.seal(data))
        best = min(best, (time.perf_counter() - start) / 400)
    # 1.5 us here; the bound leaves room for a busy machine.
    assert best < 8e-6


def test_import_loads_neither_bcrypt_nor_cryptography() -> None:
    code = "import sys, dominus.crypto; print({'bcrypt', 'cryptography'} & set(sys.modules) or 'neither')"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "neither"


async def test_hashing_does_not_block_other_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    started, release = threading.Event(), threading.Event()

    def held(password: str) -> str:
        started.set()
        assert release.wait(10)
        return "done"

    monkeypatch.setattr(crypto, "hash_password", held)
    task = asyncio.create_task(ahash_password("x"))
    while not started.is_set():
        await asyncio.sleep(0)
    release.set()
    assert await task == "done"
