"""The published client works on `dominus dev`, unchanged, from its registry and in an environment of its own.

What it calls is in `published_client.py`; what must come back is section 5 of its wire, told here as exact shapes.
"""

from __future__ import annotations

import base64
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_support import Live, live, running

from dominus import Dominus
from dominus.contract import operations
from dominus.contract.guardian import ENTITIES, LINKS, guardian
from dominus.contract.guardian.records import EntityCalls, Link

__all__ = ["live"]
# Making the environment takes 10 to 20 s, over a slow network more.
pytestmark = pytest.mark.timeout(300)

PACKAGES = ["dominus-sdk-python==2.5.1", "pyjwt[crypto]"]
SCRIPT = Path(__file__).with_name("published_client.py")
# Read when this module is loaded: tests run without the user's settings.
IS_REQUIRED = os.environ.get("DOMINUS_REQUIRE_COMPAT") == "1"
VENV = os.environ.get("DOMINUS_COMPAT_VENV")
_PROBE = "import importlib.metadata as m, jwt; print(m.version('dominus-sdk-python'))"


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_ready(folder: Path) -> bool:
    if not python_of(folder).exists():
        return False
    found = subprocess.run(
        [python_of(folder), "-c", _PROBE], capture_output=True, text=True, check=False, timeout=30
    )
    return found.stdout.strip() == PACKAGES[0].rpartition("=")[2]


def install(folder: Path) -> None:
    """Make the environment beside its place and move it there, so that a half-made one is never used."""
    making = folder.with_name(f"{folder.name}-{os.getpid()}")
    steps = [
        [sys.executable, "-m", "venv", making],
        [python_of(making), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES],
    ]
    try:
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False, timeout=110)
            if done.returncode != 0:
                why = f"{PACKAGES[0]} cannot be installed: {(done.stderr or done.stdout).strip()[-500:]}"
                pytest.fail(why) if IS_REQUIRED else pytest.skip(why)
        shutil.rmtree(folder, ignore_errors=True)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


@pytest.fixture(scope="session")
def published_python(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the published client, made at its first use and kept."""
    cache = getattr(pytestconfig, "cache", None)
    kept = cache.mkdir("compat") if cache else tmp_path_factory.mktemp("compat")
    folder = Path(VENV) if VENV else kept / "venv"
    if not is_ready(folder):
        install(folder)
    return python_of(folder)


def run(python: Path, url: str, token: str, *parts: str) -> dict[str, Any]:
    """Run parts of the script, away from this checkout's `dominus`."""
    env = {"DOMINUS_BASE_URL": url, "DOMINUS_TOKEN": token, "PATH": os.environ["PATH"]}
    command = [python, SCRIPT, *parts]
    done = subprocess.run(
        command, capture_output=True, text=True, env=env, cwd=python.parent, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.rpartition("RESULT ")[2])
    assert (said["version"], Path(said["file"]).is_relative_to(python.parents[1])) == ("2.5.1", True)
    return said


@pytest.fixture(scope="module")
def said(live: Live, published_python: Path) -> dict[str, Any]:
    parts = ["secrets", "tables", "secure", "shapes", "cache", "files", "health", "auth", "records"]
    parts += ["signatures", "unknown", "lines", "courier", "portal", "open_sql", "admin"]
    return run(published_python, live.url, live.psk, *parts)


class Part:
    """The outcomes of one part, by the names of its calls."""

    def __init__(self, outcomes: dict[str, Any]) -> None:
        self._outcomes = outcomes

    def __getitem__(self, name: str) -> Any:
        outcome = self._outcomes[name]
        assert "result" in outcome, outcome
        return outcome["result"]

    def refused(self, name: str) -> tuple[int, str, str]:
        """Status, code and text of a call that the client raised for; the body is what it can read."""
        outcome = self._outcomes[name]
        assert outcome.get("error") == "HTTPStatusError", outcome
        assert outcome["content_type"].startswith("text/plain")
        body = json.loads(base64.b64decode(outcome["body"], validate=True))
        assert body["success"] is False
        assert body["request_id"]
        return outcome["status"], body["code"], body["error"]


def test_log_lines(said: dict[str, Any]) -> None:
    part = Part(said["lines"])
    levels = ["debug", "info", "notice", "warn", "error", "critical"]
    assert [part[level] for level in [*levels, "plain", "exception"]] == [True] * 8
    entries = part["query"]
    assert [entry["level"] for entry in entries] == levels[::-1]
    assert entries[0]["message"] == "compat critical"
    assert entries[0]["context"] == {"n": 1, "deep": {"ü": [None]}}
    assert {entry["category"] for entry in entries} == {"compat"}
    assert [entry["level"] for entry in part["query_level"]] == ["error"]
    assert len(part["query_place"]) in {0, 6}  # its call site is a frame too deep at times
    assert part["query_exception"][0]["context"]["exception"] == {"type": "ValueError", "message": "bad"}
    assert {name: part["batch"][name] for name in ("total", "stored", "failed")} == {
        "total": 3,
        "stored": 2,
        "failed": 1,
    }
    # It sends the first hundred and says nothing of the others.
    assert part["batch_many"]["stored"] == 100
    assert [entry["context"] for entry in part["query_batch"]] == [{"n": 2}, {"n": 1}]
    assert [entry["message"] for entry in part["query_search"]] == ["compat without anything"]
    assert part["query_time"] == []
    # It hides the refusal.
    assert part["query_limit"] == []


TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00"


def test_secrets(said: dict[str, Any]) -> None:
    part = Part(said["secrets"])
    # Its upsert sends `update` for a new key too, and writes "updated" into whatever comes back.
    assert part["create"] == {"key": "COMPAT_A", "version": 1, "operation": "updated"}
    assert part["update"] == {"key": "COMPAT_A", "version": 2, "operation": "updated"}
    assert part["get"] == "zweiter Wört"
    assert part["get_json"] == {"nested": [1, None, 2.5]}
    assert [entry["key"] for entry in part["list"]] == ["COMPAT_A", "COMPAT_JSON"]
    assert [entry["key"] for entry in part["list_prefix"]] == ["COMPAT_JSON"]
    assert not any("value" in entry for entry in part["list"])
    assert "Wört" not in json.dumps(part["list"], ensure_ascii=False)
    assert part["delete"] == {"key": "COMPAT_A", "deleted": True}
    status, code, text = part.refused("get_deleted")
    assert (status, code) == (404, "secret_not_found")
    assert "COMPAT_A" in text


def test_the_shape_of_tables_and_tenants(said: dict[str, Any]) -> None:
    part, api = Part(said["shapes"]), said["shapes"]
    # It has no parameter `timeout` to send what it wants to send.
    broken = {
        "apply_builder_migration",
        "sync_tenants_to_latest",
        "reset_category_schema",
        "reset_tenant_schema",
    }
    assert {name for name, found in api.items() if found.get("error") == "TypeError"} == broken
    dropped = ("drop_column", "drop_index", "drop_constraint", "category_drop_table", "category_drop_column")
    for name in (*dropped, "deprovision_tenant"):
        assert part.refused(name)[:2] == (400, "validation"), name
    for name in api.keys() - broken - {*dropped, "deprovision_tenant"}:
        assert part[name] is not None, name
    assert part["create_table"]["migration_version"]
    assert isinstance(part["list_migrations"], list)
    assert part["provision_from_category"]["schema"] == "tenant_corner"
    assert len(part["provision_from_category"]["applied_migrations"]) == 1
    assert part["category_add_column"]["applied_schemas"] == ["tenant_corner"]
    assert [one["schema"] for one in part["list_provisions"]] == ["tenant_corner", "tenant_plain"]
    structure = part["get_category_structure"]
    assert (structure["category"], structure["tenant_count"], structure["migration_count"]) == ("shops", 1, 3)
    assert 'ALTER TABLE "tenant_corner"."goods"' in part["preview_migration"]["sql_preview"]
    assert part["preview_migration"]["affected_tenants"] == ["corner"]
    assert part["get_builder_migration_file"]["content"]
    assert part["get_tenant_sync_status"]["synced_count"] == 1
    assert not part["compare_versions"]["identical"]
    assert part["delete_migration"]["success"]


def test_tables_are_made_and_described(said: dict[str, Any]) -> None:
    part = Part(said["tables"])
    assert part["create_table"]["created"] is True
    assert part.refused("create_again")[:2] == (409, "table_exists")
    assert part["primary_key_form"]["columns"][0]["is_primary_key"] is True
    assert part["add_column"]["created"] is True
    assert part["schemas"] == ["public"]
    assert [table["table_name"] for table in part["tables"]] == ["compat", "compat_pk"]
    columns = {column["column_name"]: column for column in part["columns"]}
    assert list(columns)[:2] == ["id", "email"]
    assert columns["id"]["is_primary_key"] is True
    assert columns["email"] == {
        "column_name": "email",
        "data_type": "character varying(255)",
        "is_nullable": False,
        "is_primary_key": False,
        "default": None,
    }
    assert columns["status"]["is_nullable"] is False
    assert part.refused("columns_of_none")[0] == 404


def test_rows_travel_as_json_with_text_for_what_json_cannot_say(said: dict[str, Any]) -> None:
    part = Part(said["tables"])
    anna = {
        "id": "6f1ed002-ab5a-4d4f-9d1c-0d2a3b4c5d6e",
        "email": "anna@example.org",
        "price": "12345678901234.5678",
        "big": 9007199254740993,
        "doc": {"a": [1, {"b": None}]},
        "raw": "\\x00ff",
        "day": "2026-02-03",
        "tags": ["x", "y"],
        "created_at": "2026-02-03T04:05:06.789012+00:00",
        "status": "pending",
    }
    assert part["insert"] == anna
    assert part["query_filter"] == {"rows": [anna], "total": 1}
    bert = part["insert_defaults"]
    assert re.fullmatch(r"[0-9a-f-]{36}", bert["id"])
    assert re.fullmatch(TIME, bert["created_at"])
    assert {bert[name] for name in ("price", "big", "doc", "raw", "day", "tags")} == {None}


def test_rows_are_found_changed_and_deleted(said: dict[str, Any]) -> None:
    part = Part(said["tables"])
    assert part["bulk_insert"] == {"inserted_count": 5}
    assert (len(part["query_all"]["rows"]), part["query_all"]["total"]) == (7, 7)
    page = part["query_page"]
    assert ([row["big"] for row in page["rows"]], page["total"]) == ([2, 1], 3)
    assert (len(part["query_null"]["rows"]), part["query_null"]["total"]) == (1, 6)
    assert part["update"] == {"affected_rows": 3}
    assert part["delete"] == {"affected_rows": 3}


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        ("insert_again", 409, "unique_violation"),
        ("insert_wrong", 400, "unknown_column"),
        ("bulk_insert_wrong", 400, "not_null_violation"),
        ("query_wrong_column", 400, "unknown_column"),
        ("query_wrong_table", 404, "unknown_table"),
        ("query_system", 404, "unknown_schema"),
        ("update_all", 400, "all_rows"),
        ("delete_all", 400, "all_rows"),
        ("drop_table", 400, "validation"),
    ],
)
def test_what_is_wrong_with_a_row_or_table_is_said(
    call: str, status: int, code: str, said: dict[str, Any]
) -> None:
    assert Part(said["tables"]).refused(call)[:2] == (status, code)


def test_a_delete_whose_body_the_client_drops_changes_nothing(said: dict[str, Any]) -> None:
    assert Part(said["tables"])["after_drop"]["total"] == 4


def test_cache_entries(said: dict[str, Any]) -> None:
    part = Part(said["cache"])
    assert part["set"] == {"key": "compat:1", "stored": True, "ttl_seconds": 120}
    assert part["set_category"] == {"key": "compat:1", "stored": True, "ttl_seconds": 3600}
    assert part["get"] == part["nudge"] == part["nudge_default"] == {"found": True, "value": {"name": "Jörg"}}
    assert part["get_category"] == {"found": True, "value": "other"}
    assert part["get_missing"] == {"found": False}
    assert part["get_null"] == {"found": True, "value": None}
    assert part["mget"]["results"] == [part["get"], {"found": False}, {"found": True, "value": "other"}]
    assert part["mget_many"]["results"] == [{"found": False}] * 100
    assert part["setnx"] == {"acquired": True}
    assert part["setnx_held"] == {"acquired": False, "existing": "me"}
    assert (part["incr"], part["incr_down"]) == ({"value": 5}, {"value": 3})
    assert (part["delete"], part["delete_again"]) == ({"deleted": True}, {"deleted": False})
    assert part.refused("incr_text")[0] == 409
    for call in ("ttl_short", "ttl_long"):
        status, code, text = part.refused(call)
        assert (status, code) == (400, "validation")
        assert "ttl" in text


def test_cache_hashes(said: dict[str, Any]) -> None:
    part = Part(said["cache"])
    assert (part["hset"], part["hset_again"]) == ({"set": True}, {"set": False})
    assert part["hget"] == {"found": True, "value": {"n": 1}}
    assert part["hget_missing"] == {"found": False}
    assert part["hgetall"] == {"found": True, "fields": {"email": {"n": 1}}}
    assert part["hgetall_missing"] == {"found": False}
    assert (part["hdel"], part["hdel_again"]) == ({"deleted": True}, {"deleted": False})


def test_cache_keys_are_listed_in_pages_until_the_cursor_is_falsy(said: dict[str, Any]) -> None:
    part = Part(said["cache"])
    assert sorted(part["list"]["keys"]) == ["compat:1", "compat:null"]
    assert part["list"]["count"] == 2
    pages = part["pages"]
    assert sorted(key for page in pages for key in page["keys"]) == [f"page:{n}" for n in range(7)]
    assert all(page["count"] == len(page["keys"]) <= 3 for page in pages)
    assert not pages[-1]["cursor"]


def test_files(said: dict[str, Any]) -> None:
    part = Part(said["files"])
    made, again = part["upload"], part["upload_again"]
    assert (made["path"], made["size"], made["tags"], made["content_type"]) == (
        "in/a.pdf",
        6,
        {"k": "v"},
        "application/pdf",
    )
    assert (again["id"], again["version"]) == (made["id"], 2)
    assert part.refused("upload_wrong")[:2] == (400, "validation")
    link = part["download"]
    assert re.fullmatch(TIME, link["expires_at"])
    assert part["got"] == "newer"
    fetched = part["fetch"]
    assert (base64.b64decode(fetched["data"]), fetched["filename"], fetched["content_type"]) == (
        b"newer",
        "a.pdf",
        "application/pdf",
    )
    assert base64.b64decode(part["fetch_law"]["data"]) == b"law"
    assert part.refused("fetch_law_as_nobody")[:2] == (400, "actor_required")
    assert part.refused("fetch_none")[:2] == (404, "file_not_found")
    listed = part["list"]
    assert ([one["id"] for one in listed["objects"]], listed["count"], listed["cursor"]) == (
        [made["id"]],
        1,
        None,
    )


def test_files_are_moved_described_browsed_counted_and_deleted(said: dict[str, Any]) -> None:
    part = Part(said["files"])
    assert part["move"]["path"] == "out/b.pdf"
    assert (part["update_meta"]["tags"], part["update_meta"]["description"]) == ({"a": "b"}, "why")
    root = part["browse"]
    assert ([one["name"] for one in root["folders"]], [one["path"] for one in root["files"]]) == (
        ["out"],
        ["law.txt"],
    )
    assert (part["stats"]["total_objects"], part["stats"]["total_size_bytes"]) == (2, 8)
    amount = {"name": "compat", "object_count": 2, "total_size_bytes": 8}
    assert part["categories"] == part["view"] == {"categories": [amount]}
    views = part["views"]
    assert (views["is_admin"], views["total_views"]) == (True, len(views["views"]))
    assert part["create_folder"]["created"] is True
    assert part["delete_folder"] == {"deleted": True, "path": "/made", "deleted_count": 0}
    assert part.refused("delete_full_folder")[:2] == (409, "folder_not_empty")
    assert part.refused("delete_law")[:2] == (409, "file_retained")
    assert part["delete"] == {"deleted": True}
    assert part.refused("reset_unconfirmed")[:2] == (400, "confirm_required")
    assert (part["reset"]["deleted_count"], part["reset"]["retained_count"]) == (0, 1)


def test_health(said: dict[str, Any]) -> None:
    part = Part(said["health"])
    assert part["ping"] == {"status": "ok"}
    assert part["warmup"]["status"] == "ok"
    assert part["string_form"]["status"] == "healthy"
    assert part["string_form"]["services"]["orchestrator"]["engines"].keys() == {"postgres", "redis"}


def test_tokens_are_minted_and_verified(said: dict[str, Any]) -> None:
    part = Part(said["auth"])
    assert part["jwks"]["keys"][0].keys() >= {"kty", "kid", "n", "e"}
    assert part["validate"]["sub"] == "service:root"
    assert "aud" not in part["validate"]
    assert part["self"]["access_token"].count(".") == 2
    assert part["mint"].keys() == {"access_token", "token_type", "expires_in"}
    assert part["public_key"]["public_key"].startswith("-----BEGIN PUBLIC KEY-----")


def test_secure_tables_are_used_with_a_reason(said: dict[str, Any]) -> None:
    part = Part(said["secure"])
    made = part["create"]
    assert (made["table_name"], made["schema_name"]) == ("compat_secure", "public")
    assert part["get"] == made
    assert part["list"]["items"] == [made]
    assert part.refused("again")[:2] == (409, "already_exists")
    assert "compat_secure" in {table["table_name"] for table in part["tables"]}
    assert "is_primary_key" in part["columns"][0]
    assert part["query"]["rows"] == [part["insert"]]
    for name in ("query_none", "query_db"):
        assert part.refused(name)[:2] == (403, "secure_table")
    assert part["update"]["affected_rows"] == part["delete"]["affected_rows"] == 1
    assert part["bulk_insert"]["inserted_count"] == 1
    assert part["add_scopes"] == {"added": 1}
    assert [scope["slug"] for scope in part["get_scopes"]] == ["compat:care"]
    assert part.refused("remove_scopes")[:2] == (400, "validation")
    assert part["delete_table"]["deleted"] is True
    assert [row["big"] for row in part["after"]["rows"]] == [7]


RECORDS = {calls.entity.name: calls.entity for calls in ENTITIES if isinstance(calls, EntityCalls)}
LINKED = [calls.link for calls in LINKS if calls.link.owner.name in RECORDS]


@pytest.mark.parametrize("name", RECORDS)
def test_records_are_made_listed_changed_and_deleted(name: str, said: dict[str, Any]) -> None:
    part, plural = Part(said["records"]), RECORDS[name].plural
    made = part[f"create_{name}"]
    psk = made.pop("psk", None)
    assert (psk is not None) == (name == "client")
    assert made.keys() == set(RECORDS[name].row.__annotations__)
    assert re.fullmatch(TIME, made["created_at"])
    assert part[f"get_{name}"] == made
    listed = part[f"list_{plural}"]
    assert [record for record in listed["items"] if record["id"] == made["id"]] == [made]
    assert listed["total"] == len(listed["items"])
    if any(column.is_unique for column in RECORDS[name].columns.values()):
        assert part.refused(f"again_{name}")[:2] == (409, "already_exists")
    changed = part[f"update_{name}"]
    assert changed["id"] == made["id"]
    assert sum(changed[field] != made[field] for field in made) == 2  # the field, and when
    assert part[f"delete_{name}"] == {"id": made["id"], "deleted": True}


@pytest.mark.parametrize("link", LINKED, ids=lambda link: link.table)
def test_links_are_added_listed_and_never_removed_by_a_body_that_is_missing(
    link: Link[Any], said: dict[str, Any]
) -> None:
    part = Part(said["records"])
    assert part[f"add_{link.table}"] == {"added": 1}
    linked = part[f"get_{link.table}"]
    assert [record["id"] for record in linked] == [part[f"create_{link.target.name}"]["id"]]
    assert part.refused(f"remove_{link.table}")[:2] == (400, "validation")
    if link.owner.name == "page":
        assert part[f"set_{link.table}"] == linked


def test_passwords_and_keys_are_verified_and_replaced(said: dict[str, Any]) -> None:
    part = Part(said["records"])
    valid = {
        "verify_password": True,
        "verify_old_password": False,
        "verify_password_again": True,
        "verify_psk": True,
        "verify_new_psk": True,
        "verify_wrong_psk": False,
    }
    assert {name: part[name] for name in valid} == {name: {"valid": said} for name, said in valid.items()}
    assert part["update_password"]["updated"] is True
    assert part.refused("long_password")[:2] == (400, "validation")
    assert len(part["regenerate_psk"]["psk"]) == 43
    assert [user["username"] for user in part["list_inactive_users"]["items"]] == ["ada"]
    assert [item["title"] for item in part["list_top_nav_items"]["items"]][:1] == ["Papers"]
    assert [item["title"] for item in part["list_nav_below"]["items"]] == ["Below"]
    assert part["delete_nav_below"]["deleted"] is True


def test_a_record_in_use_is_kept(said: dict[str, Any]) -> None:
    part = Part(said["records"])
    assert part.refused("delete_in_use")[:2] == (409, "in_use")
    assert part.refused("get_none")[:2] == (404, "not_found")
    assert part["list_filtered"]["items"] == []


def test_the_flat_names_take_what_those_of_the_published_client_take(said: dict[str, Any]) -> None:
    mine = Dominus("http://dominus.test", "x" * 43).auth
    walked = 0
    for name, theirs in said["signatures"].items():
        if hasattr(mine, name) and f"auth.{name}" in operations():
            parameters = inspect.signature(getattr(mine, name)).parameters.values()
            ours = [
                [item.name, repr(item.default)]
                for item in parameters
                if item.kind is item.POSITIONAL_OR_KEYWORD
            ]
            assert ours == theirs, name
            walked += 1
    assert walked >= len(guardian.operations)


def test_what_administrators_begin_with_is_seeded_once(said: dict[str, Any]) -> None:
    part = Part(said["admin"])
    assert part["reseed"]["success"] is True
    assert part["reseed"]["seeded_entities"]["roles"] == 1
    assert set(part["again"]["seeded_entities"].values()) == {0}
    assert part.refused("reset")[:2] == (400, "confirm_required")


def test_mails_are_accepted_and_lie_in_the_outbox(said: dict[str, Any]) -> None:
    part = Part(said["courier"])
    calls = ["send", "welcome", "password_reset", "email_verification", "invitation"]
    for call in calls:
        assert part[call].keys() == {"to", "message_id", "submitted_at"}
        assert part[call]["to"] == "ada@example.com"
        assert re.fullmatch(TIME, part[call]["submitted_at"])
    lying = {item["message_id"]: item for item in part["outbox"]["items"]}
    aliases = ["welcome", "welcome", "password-reset", "email-verification", "invitation"]
    assert [lying[part[call]["message_id"]]["template_alias"] for call in calls] == aliases
    assert lying[part["invitation"]["message_id"]]["model"]["action_url"] == "https://x/4"
    assert lying[part["welcome"]["message_id"]]["model"]["more"] == 1
    assert part.refused("unknown")[:2] == (404, "template_not_found")
    assert part.refused("missing")[:2] == (400, "model_key_missing")
    assert part.refused("injected")[:2] == (400, "validation")


def test_users_log_in_and_out(said: dict[str, Any]) -> None:
    part = Part(said["portal"])
    operations_of = {name.partition(".")[2] for name in operations() if name.startswith("portal.")}
    assert operations_of - {"create_invitation"} <= said["portal"].keys()
    login = part["login"]
    always = {"access_token", "token_type", "expires_in", "session_id", "subject_type", "tenant", "tenants"}
    assert login.keys() == always | {"refresh_token", "user"}
    assert (login["user"]["username"], login["tenant"]["slug"]) == ("portal-ada", "portal-1")
    assert [each["slug"] for each in login["tenants"]] == ["portal-1", "portal-2"]
    assert (part["login_in"]["tenant"]["slug"], login["expires_in"]) == ("portal-2", 900)
    assert part["login_client"].keys() == always | {"refresh_token", "client"}
    for name in ("login_wrong", "login_client_wrong"):
        assert part.refused(name)[:2] == (401, "login_failed")
    me = part["me"]
    assert (me["subject_type"], me["user"]["email"]) == ("user", "portal-ada@example.com")
    assert me.keys() >= {"tenants", "scopes", "roles"}
    assert part["me_service"]["subject_type"] == "service"
    assert part["refresh"].keys() == always | {"user"}
    assert (part["switch_tenant"]["tenant"]["slug"], part["switch_tenant"]["session_id"]) == (
        "portal-2",
        login["session_id"],
    )
    assert part.refused("switch_wrong")[:2] == (403, "tenant_denied")


def test_sessions_profiles_and_pages_of_users(said: dict[str, Any]) -> None:
    part = Part(said["portal"])
    listed = part["list_sessions"]
    assert {each["session_id"] for each in listed} == {
        part["login"]["session_id"],
        part["login_in"]["session_id"],
    }
    assert part["revoke_session"] == {"session_id": part["login_in"]["session_id"], "revoked": True}
    for name in ("revoked", "after_logout"):
        assert part.refused(name)[:2] == (401, "session_revoked")
    assert part["revoke_all_sessions"] == {"revoked": 0}
    assert part["get_profile"]["display_name"] is None
    profile = part["update_profile"]
    assert (profile["display_name"], profile["bio"], profile["extra"]) == ("Ada", "Counts.", {"n": [1]})
    assert (part["get_preferences"]["theme"], part["update_preferences"]["theme"]) == ("system", "dark")
    assert "Portal item" in [item["title"] for item in part["get_navigation"]["items"]]
    assert part["check_page_access"] == {"allowed": True, "reason": "allowed"}
    assert part["check_none"] == {"allowed": False, "reason": "unknown_page"}
    assert part["logout"] == {"logged_out": True}


def test_passwords_registrations_and_invitations(said: dict[str, Any]) -> None:
    part = Part(said["portal"])
    for name in ("change_password", "request_password_reset", "request_unknown", "confirm_password_reset"):
        assert part[name] == {"success": True}
    assert part.refused("confirm_again")[:2] == (400, "mail_link_invalid")
    assert (part["register"]["user"]["username"], part["register"]["verification_status"]) == (
        "portal-bea",
        "pending",
    )
    assert part.refused("register_closed")[:2] == (403, "registration_closed")
    assert part["resend_verification"] == {"success": True}
    assert (part["verify_email"]["success"], part["verify_email"]["user"]["status"]) == (True, "active")
    assert part["accept_invitation"]["user"]["email"] == "portal-cleo@example.com"
    assert part["accept_invitation"]["access_token"].count(".") == 2


def test_sql_runs_with_parameters_by_their_numbers(said: dict[str, Any]) -> None:
    part = Part(said["open_sql"])
    assert part["dsn"].startswith("postgresql://dominus_s_")
    assert (part["create"]["command"], part["insert"]["row_count"]) == ("CREATE TABLE", 1)
    assert part["select"]["items"] == [{"name": "wörd"}]
    assert part["plain"]["items"] == [{"n": 1}]
    assert part.refused("wrong")[:2] == (400, "invalid_value")
    assert part.refused("two")[:2] == (400, "sql_refused")


def test_what_the_server_does_not_have_is_a_4xx_that_the_client_can_read(said: dict[str, Any]) -> None:
    part = Part(said["unknown"])
    assert part.refused("get")[:2] == (404, "unknown_route")
    assert part.refused("put")[:2] == (405, "method_not_allowed")
    assert part.refused("user_token")[:2] == (401, "token_invalid")


# --- the first call


def requests_of(live: Live, operation: str, status: int) -> int:
    with urllib.request.urlopen(f"{live.url}/metrics") as answer:
        shown = answer.read().decode()
    wanted = rf'dominus_requests_total{{operation="{operation}",service="\w+",status="{status}"}} (\d+)'
    found = re.search(wanted, shown)
    return int(found[1]) if found else 0


@pytest.fixture(scope="module")
def short_lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("short") / "home", TOKEN_LIFETIME="60") as found:
        yield found


def test_ten_first_calls_at_once_get_through(live: Live, published_python: Path) -> None:
    before = [requests_of(live, name, 200) for name in ("health.check", "auth.self")]
    found = run(published_python, live.url, live.psk, "first_calls")
    assert Part(found["first_calls"])["ten"] == [{"found": False}] * 10
    after = [requests_of(live, name, 200) for name in ("health.check", "auth.self")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [10, 10]


def test_a_token_is_used_again_unless_it_ends_within_a_minute(
    live: Live, short_lived: Live, published_python: Path
) -> None:
    mints: list[int] = []
    for server in (live, short_lived):
        before = requests_of(server, "auth.self", 200)
        found = run(published_python, server.url, server.psk, "three_calls")
        assert Part(found["three_calls"])["three"] == [{"found": False}] * 3
        mints.append(requests_of(server, "auth.self", 200) - before)
    assert mints == [1, 3]


def test_a_wrong_token_is_refused_three_times_and_then_given_up(live: Live, published_python: Path) -> None:
    before = requests_of(live, "auth.self", 401)
    call = run(published_python, live.url, "w" * 43, "refused")["refused"]["call"]
    assert call["error"] == "RuntimeError"
    assert "401" in call["message"]
    assert requests_of(live, "auth.self", 401) - before == 3


def test_a_token_too_short_is_refused_by_the_client_itself(live: Live, published_python: Path) -> None:
    before = requests_of(live, "health.check", 200)
    call = run(published_python, live.url, "short", "refused")["refused"]["call"]
    assert (call["error"], call["message"]) == ("RuntimeError", "Invalid token format")
    assert requests_of(live, "health.check", 200) == before


def test_a_server_that_is_away_is_unhealthy_to_the_client(published_python: Path) -> None:
    call = run(published_python, "http://127.0.0.1:9", "w" * 43, "refused")["refused"]["call"]
    assert call["error"] == "RuntimeError"
    assert "unhealthy" in call["message"].lower()
