"""What an import costs, and the layers of the house: imports run one way."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import dominus

ROOT = Path(dominus.__file__).parent
HEAVY = {
    "aiohttp", "asyncpg", "bcrypt", "cryptography", "fakeredis", "fastapi", "httpx", "httpx_aiohttp", "jwt", "lupa", "obstore", "prometheus_client", "psycopg", "tigerbeetle",
    "pydantic", "pydantic_core", "pydantic_settings", "redis", "rich", "starlette", "typer", "uvicorn", "uvloop", "yarl", "pytest",
}  # fmt: skip
# httpx loads rich for its command line wherever it is installed.
SERVER = HEAVY - {
    "rich",
    "aiohttp",
    "cryptography",
    "httpx",
    "jwt",
    "pydantic",
    "pydantic_core",
    "pydantic_settings",
    "yarl",
    "bcrypt",
    "httpx_aiohttp",
}


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after some code."""
    script = f"{code}\nimport sys, json; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import dominus",
        "from dominus import *",
        "from dominus import dominus; repr(dominus); dominus.deadline",
        "import dominus.testing.plugin",
        "import dominus.testing",
    ],
)
def test_import_dominus_loads_nothing_heavy(code: str):
    if "plugin" in code:
        # pytest itself, and pytest-asyncio, are there in any run that loads the plugin.
        assert loaded_by(code) & (HEAVY - {"pytest"}) == set()
    else:
        assert loaded_by(code) & HEAVY == set()


def test_making_a_client_loads_nothing_heavy():
    assert loaded_by("import dominus; dominus.Dominus('https://x', 't' * 43)") & HEAVY == set()


def test_pydantic_comes_with_the_first_namespace_and_the_wire_with_the_first_call():
    loaded = loaded_by("from dominus import dominus; dominus.redis")
    assert "pydantic" in loaded
    assert loaded & {"aiohttp", "httpx", "cryptography", "bcrypt"} == set()


def test_a_call_loads_no_server_library():
    code = """
import asyncio
from dominus import Dominus, DominusError
async def main():
    async with Dominus("http://127.0.0.1:1", "t" * 43, cold_start_timeout=0) as client:
        try:
            await client.redis.get("k", timeout=1)
        except DominusError:
            return
asyncio.run(main())
"""
    loaded = loaded_by(code)
    assert "aiohttp" in loaded
    # pybreaker imports redis-py wherever it is installed.
    assert loaded & SERVER <= {"redis"}


# --- layers

LAYERS: dict[str, set[str]] = {
    # A layer -> what it may import beside itself, and beside errors, hints, result and _version.
    "errors": set(),
    "result": set(),
    "_version": set(),
    "hints": set(),
    "crypto": set(),
    "contract": set(),
    "env_file": set(),
    "settings": {"env_file"},
    "transport": {"contract", "settings", "crypto"},
    "shipping": {"transport", "contract", "settings"},
    "namespaces": {"transport", "contract", "caller", "shipping"},
    "caller": {"transport", "contract", "settings"},
    "names": {"contract"},
    "integrations": {"caller", "contract", "namespaces", "transport", "__init__"},
    "sessions": {"transport", "contract", "settings", "caller", "crypto"},
    "client": {
        "caller",
        "integrations",
        "names",
        "namespaces",
        "sessions",
        "transport",
        "contract",
        "settings",
    },
    "__init__": {"client"},
    "__main__": {"cli"},
    "orchestrator": {"contract", "crypto", "env_file"},
    "testing": {
        "client",
        "caller",
        "transport",
        "contract",
        "settings",
        "orchestrator",
        "crypto",
        "__init__",
    },
    "cli": {
        "env_file",
        "orchestrator",
        "client",
        "contract",
        "crypto",
        "settings",
        "names",
        "testing",
        "__init__",
        "transport",
    },
}
EVERYBODY = {"errors", "hints", "result", "_version"}
DOORS = {("transport/runtime.py", "dominus.orchestrator.serving.in_process")}
"""The lazy door from the SDK half to the orchestrator."""


def layer_of(path: str) -> str:
    return path.partition("/")[0].removesuffix(".py")


def imports_of(file: Path) -> list[tuple[str, bool]]:
    """Return (module, is it only for types) of every import in a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for body in node.body
        for inner in ast.walk(body)
    }
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node in typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found += [(node.module or "", node in typing_only)]
            found += [(f"{node.module}.{alias.name}", node in typing_only) for alias in node.names]
    return found


FILES = sorted(path for path in ROOT.rglob("*.py") if "migrations" not in path.parts)
MODULES = {
    ".".join(["dominus", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
    for path in FILES
}


FLOORS = [
    # The rooms of the orchestrator: each imports only from floors above it in this list, and from the layers below.
    {"home", "settings", "net"},
    {"engines/postgres", "engines/redis", "engines/objects", "engines/mail"},
    {"sql", "identity"},
    {"gateway", "logs", "outbox"},
    {"handlers"},
    {"services"},
    {"http"},
    {"serving"},
]


def module_of(file: Path) -> str:
    return ".".join(["dominus", *file.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


def imported_modules(file: Path) -> set[str]:
    """Every module of the package that a file imports, at run time, for types, or inside a function."""
    found: set[str] = set()
    for imported, _ in imports_of(file):
        name = imported
        while name.startswith("dominus.") and name not in MODULES:
            name = name.rpartition(".")[0]
        if name.startswith("dominus."):
            found.add(name)
    return found - {module_of(file)}


def test_no_imports_run_in_a_circle_not_even_for_types():
    graph = {module_of(file): imported_modules(file) for file in FILES}
    graph = {name: others & graph.keys() for name, others in graph.items()}
    while free := [name for name, others in graph.items() if not others]:
        for name in free:
            del graph[name]
        graph = {name: others - set(free) for name, others in graph.items()}
    assert graph == {}, "these import each other"


def test_the_rooms_of_the_orchestrator_stand_on_floors():
    level = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    seen: set[str] = set()
    for file in FILES:
        own = room_of(module_of(file))
        if own is None:
            continue
        seen.add(own)
        for other in filter(None, map(room_of, imported_modules(file))):
            assert other == own or level[other] < level[own], f"{module_of(file)} imports from {other}"
    assert seen == level.keys()


def room_of(module: str) -> str | None:
    parts = module.split(".")[1:]
    if parts[:1] != ["orchestrator"] or len(parts) < 2 or parts[1:] == ["engines"]:
        return None
    return "/".join(parts[1:3]) if parts[1] == "engines" else parts[1]


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(file: Path):
    path = file.relative_to(ROOT).as_posix()
    own = layer_of(path)
    assert own in LAYERS, f"{own} is a new layer: say here what it may import"
    allowed = LAYERS[own] | EVERYBODY | {own}
    for module, is_typing in imports_of(file):
        top, _, rest = module.partition(".")
        if top != "dominus" or not rest:
            continue
        other = rest.partition(".")[0]
        is_module = (ROOT / other).is_dir() or (ROOT / f"{other}.py").is_file()
        if not is_module or is_typing or any(module.startswith(door) for at, door in DOORS if at == path):
            continue
        assert other in allowed, f"{path} imports {module}: {own} may import {sorted(LAYERS[own])}"


def test_the_door_to_the_orchestrator_is_opened_lazily():
    tree = ast.parse((ROOT / "transport/runtime.py").read_text(encoding="utf-8"))
    assert not [
        node
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and "orchestrator" in (node.module or "")
    ]


@pytest.mark.parametrize(
    "file", [file for file in FILES if "cli" not in file.parts], ids=lambda path: str(path.relative_to(ROOT))
)
def test_all_is_sorted_and_names_only_what_is_there(file: Path):
    name = ".".join(["dominus", *file.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", None)
    if exported is None:
        return
    assert list(exported) == sorted(
        exported, key=lambda text: (not text.isupper(), not text[:1].isupper(), text)
    ) or list(exported) == sorted(exported)
    for entry in exported:
        getattr(module, entry)


def test_the_public_face_is_complete():
    import dominus.errors

    exported = set(dominus.__all__)
    assert {"dominus", "Dominus", "__version__"} <= exported
    assert {name for name in dominus.errors.__all__ if name.endswith("Error")} <= exported
