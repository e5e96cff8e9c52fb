"""vault: what is moved, changed or wrapped under another master key does not open."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Any

import pytest

from dominus.errors import ServiceError, ValidationError
from dominus.orchestrator.identity import vault as module
from dominus.orchestrator.identity.vault import DataKey, Vault, parse_master_keys

PLACE = {"project": "shop", "environment": "production", "key": "DATABASE_URL", "version": 3}


class KeyTable:
    """`dominus.data_keys`, for as long as a test."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    async def fetchrow(self, query: str, project: str, environment: str) -> dict[str, Any] | None:
        assert query == module._FIND_KEY
        owner = (project, environment)
        return next((dict(row) for row in self.rows if (row["project"], row["environment"]) == owner), None)

    async def fetch(self, query: str, *args: Any) -> list[dict[str, Any]]:
        if query == module._FIND_MASTERS:
            return [{"master_id": master_id} for master_id in {row["master_id"] for row in self.rows}]
        assert query == module._FIND_FOREIGN_KEYS
        return [dict(row) for row in self.rows if row["master_id"] != args[0]]

    async def execute(self, query: str, *args: Any) -> str:
        if query == module._ADD_KEY:
            project, environment, wrapped, master_id = args
            if await self.fetchrow(module._FIND_KEY, project, environment) is None:
                known = {"project": project, "environment": environment, "master_id": master_id}
                self.rows.append({"id": len(self.rows) + 1, "wrapped": wrapped, **known})
            return "INSERT 0 1"
        assert query == module._REWRAP_KEY
        id_, old, new, master_id = args
        found = [row for row in self.rows if row["id"] == id_ and row["wrapped"] == old]
        for row in found:
            row.update(wrapped=new, master_id=master_id)
        return f"UPDATE {len(found)}"


OLD, NEW = secrets.token_bytes(32), secrets.token_bytes(32)


async def started(table: KeyTable, *masters: bytes) -> Vault:
    vault = Vault(masters or [OLD])
    await vault.start(table)
    return vault


async def sealed(vault: Vault, table: KeyTable, data: bytes = b"value", **place: Any) -> dict[str, Any]:
    where = PLACE | place
    data_key = await vault.data_key(table, where["project"], where["environment"])
    result = vault.seal(data, data_key, **where)
    [row] = [row for row in table.rows if row["id"] == result.data_key_id]
    return {**row, "nonce": result.nonce, "ciphertext": result.ciphertext}


@pytest.fixture
def table() -> KeyTable:
    return KeyTable()


@pytest.fixture
async def vault(table: KeyTable) -> Vault:
    return await started(table)


async def test_a_secret_opens_where_it_was_sealed(vault: Vault, table: KeyTable) -> None:
    row = await sealed(vault, table)
    assert b"value" not in row["ciphertext"]
    assert vault.open(row, **PLACE) == b"value"
    again = await sealed(vault, table)
    assert again["ciphertext"] != row["ciphertext"]
    assert again["id"] == row["id"]


@pytest.mark.parametrize(
    "moved",
    [
        {"project": "shop2"},
        {"environment": "staging"},
        {"key": "OTHER"},
        {"version": 4},
        # The same letters, divided otherwise.
        {"project": "shopp", "environment": "roduction"},
        {"key": "DATABASE_URL3", "version": 0},
    ],
)
async def test_a_ciphertext_does_not_open_elsewhere(
    vault: Vault, table: KeyTable, moved: dict[str, Any]
) -> None:
    row = await sealed(vault, table)
    where = PLACE | moved
    # With the other place's own data key, and with the one it was sealed under.
    there = await sealed(vault, table, **moved)
    for keys in (row, there):
        moved_row = {**row, "wrapped": keys["wrapped"], "id": keys["id"]}
        with pytest.raises(ServiceError) as caught:
            vault.open(moved_row, **where)
        assert caught.value.code == "secret_corrupt"
        assert not caught.value.retryable


@pytest.mark.parametrize("column", ["nonce", "ciphertext", "wrapped"])
async def test_a_changed_row_does_not_open(vault: Vault, table: KeyTable, column: str) -> None:
    row = await sealed(vault, table)
    for changed in (bytes([row[column][0] ^ 1]) + row[column][1:], row[column][:-1], b""):
        with pytest.raises(ServiceError, match="does not open") as caught:
            vault.open({**row, column: changed}, **PLACE)
        assert "value" not in str(caught.value)


async def test_a_data_key_serves_its_own_environment_alone(vault: Vault, table: KeyTable) -> None:
    await sealed(vault, table)
    staging = await sealed(vault, table, environment="staging")
    production_row = next(row for row in table.rows if row["environment"] == "production")
    production_row["wrapped"] = staging["wrapped"]
    # Known in memory under its right owner, and still refused under the wrong one.
    with pytest.raises(ServiceError, match="data key of project 'shop', environment 'production'"):
        await vault.data_key(table, "shop", "production")


async def test_replicas_share_keys_and_fingerprints(vault: Vault, table: KeyTable) -> None:
    other = await started(table)
    assert other.open(await sealed(vault, table), **PLACE) == b"value"
    assert other.fingerprint(b"a", b"b") == vault.fingerprint(b"a", b"b")


async def test_fingerprints_are_keyed_and_tell_parts_apart(vault: Vault) -> None:
    seen = vault.fingerprint(b"ab", b"c")
    assert len(seen) == 64
    assert seen != vault.fingerprint(b"a", b"bc") != vault.fingerprint(b"abc")
    assert seen != hashlib.sha256(b"abc").hexdigest()
    assert (await started(KeyTable())).fingerprint(b"ab", b"c") != seen


async def test_a_stream_is_fingerprinted_as_it_comes(vault: Vault) -> None:
    def of(*chunks: bytes) -> str:
        digest = vault.fingerprinter(b"db.bulk_insert")
        for chunk in chunks:
            digest.update(chunk)
        return digest.hexdigest()

    assert of(b"one", b"two") == of(b"onet", b"wo")
    assert of(b"one") != of(b"two")


async def test_another_master_key_is_said_at_start(table: KeyTable, vault: Vault) -> None:
    with pytest.raises(ServiceError, match="DOMINUS_MASTER_KEY") as caught:
        await started(table, NEW)
    assert caught.value.code == "wrong_master_key"
    assert caught.value.hint
    for key in (OLD, NEW):
        assert key.hex() not in str(caught.value)
        assert base64.b64encode(key).decode() not in str(caught.value)


async def test_the_master_key_is_replaced_without_downtime(table: KeyTable) -> None:
    before = await started(table, OLD)
    row = await sealed(before, table)
    print_of = before.fingerprint(b"x")
    signing = before.seal_signing_key(b"private", "kid")

    prepared = await started(table, OLD, NEW)
    assert await prepared.rewrap(table) == 0
    changing = await started(table, NEW, OLD)
    assert await changing.rewrap(table) == 2
    assert await changing.rewrap(table) == 0
    # The replica that still prefers the old key works on.
    assert prepared.open(
        row | {"wrapped": table.rows[1]["wrapped"], "master_id": table.rows[1]["master_id"]}, **PLACE
    )

    after = await started(table, NEW)
    data_row = next(known for known in table.rows if known["id"] == row["id"])
    assert after.open(row | data_row, **PLACE) == b"value"
    assert after.fingerprint(b"x") == print_of
    assert after.open_signing_key(signing, "kid") == b"private"
    with pytest.raises(ServiceError, match="not among"):
        await started(table, OLD)


async def test_a_start_without_a_key_that_is_still_needed_is_refused(table: KeyTable) -> None:
    both = await started(table, NEW, OLD)
    await sealed(await started(table, OLD, NEW), table)
    with pytest.raises(ServiceError) as caught:
        await started(table, NEW)
    assert caught.value.code == "wrong_master_key"
    await both.rewrap(table)
    await started(table, NEW)


async def test_of_two_replicas_rewrapping_one_changes_each_key(table: KeyTable) -> None:
    await sealed(await started(table, OLD), table)
    one, two = await started(table, NEW, OLD), await started(table, NEW, OLD)
    stale = [dict(row) for row in table.rows]
    assert await one.rewrap(table) == 2

    class Stale(KeyTable):
        async def fetch(self, query: str, *args: Any) -> list[dict[str, Any]]:
            return stale

    late = Stale()
    late.rows = table.rows
    assert await two.rewrap(late) == 0


async def test_a_signing_key_is_bound_to_its_name(vault: Vault) -> None:
    inside = vault.seal_signing_key(b"private", "kid-1")
    assert vault.open_signing_key(inside, "kid-1") == b"private"
    with pytest.raises(ServiceError, match="kid-2"):
        vault.open_signing_key(inside, "kid-2")
    with pytest.raises(ServiceError, match="kid-1"):
        vault.open_signing_key(b"", "kid-1")


async def test_unwrapped_keys_are_bounded(
    vault: Vault, table: KeyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_CACHED_KEYS", 3)
    for number in range(10):
        row = await sealed(vault, table, project=f"p{number}")
        assert vault.open(row, **PLACE | {"project": f"p{number}"}) == b"value"
    assert len(vault._unwrapped) == 3


async def test_a_vault_that_was_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="start"):
        Vault([OLD]).fingerprint(b"x")


async def test_nothing_secret_is_shown(vault: Vault, table: KeyTable) -> None:
    data_key: DataKey = await vault.data_key(table, "p", "e")
    assert "cipher" not in repr(data_key)
    assert OLD.hex() not in repr(vault)


def test_master_keys_are_read_in_either_alphabet() -> None:
    both = f"{base64.b64encode(OLD).decode()} , {base64.urlsafe_b64encode(NEW).decode().rstrip('=')}"
    assert parse_master_keys(both) == [OLD, NEW]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "key 1 has 0 bytes"),
        ("hunter2!hunter2!", "key 1 is not base64"),
        ("schlüssel", "key 1 is not base64"),
        (base64.b64encode(b"k" * 16).decode(), "key 1 has 16 bytes"),
        (base64.b64encode(OLD).decode() + ",hunter2", "key 2 "),
        (base64.b64encode(OLD).decode() + ",", "key 2 has 0 bytes"),
        (",".join([base64.b64encode(OLD).decode()] * 2), "key 2 stands there twice"),
    ],
    ids=["empty", "not-base64", "not-ascii", "short", "short-second", "empty-second", "twice"],
)
def test_a_bad_master_key_is_named_and_not_shown(text: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        parse_master_keys(text)
    last = text.rpartition(",")[2]
    assert not last or last not in str(caught.value)


def test_no_and_short_keys_are_refused() -> None:
    for keys in ([], [b"short"], [OLD, b""]):
        with pytest.raises(ValidationError):
            Vault(keys)
