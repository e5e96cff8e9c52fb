"""The Redis inside this process, and the Lua in which the orchestrator's scripts run there."""
# ruff: noqa: SLF001 - fakeredis has no public way to give it a Lua runtime; its version is bounded for that.

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from fakeredis import FakeServer

__all__ = ["embedded_server"]

VERSION = (7,)
"""Of the Redis that it answers as."""
_servers: dict[str, FakeServer] = {}


def embedded_server(key: str) -> FakeServer:
    """Return the data of a name, the same for every event loop of the process; made at the first call."""
    # Loops of several threads may come at the same time: all of them get the one that was put there first.
    return _servers.get(key) or _servers.setdefault(key, _new_server())


def _new_server() -> FakeServer:
    from fakeredis import FakeServer

    server = FakeServer(version=VERSION)
    _give_lua(server)
    return server


def _give_lua(server: FakeServer) -> None:
    """Give a server the runtime of its scripts, where fakeredis would make one with `os`, `io` and Python's own.

    Scripts are the orchestrator's alone; were another one ever to run, it would find nothing but Redis's commands.
    """
    from fakeredis.commands_mixins import scripting_mixin

    lua: Any = cast("Any", scripting_mixin).LUA_MODULE
    runtime = lua.LuaRuntime(
        encoding=None,
        unpack_returned_tuples=True,
        register_eval=False,
        register_builtins=False,
        attribute_filter=_no_attribute,
    )
    inside = cast("Any", server)
    client: list[Any] = [None]

    def call(*command: Any) -> Any:
        return client[0]._lua_redis_call(runtime, inside._lua_expected_globals, *command)

    def protected_call(*command: Any) -> Any:
        return client[0]._lua_redis_pcall(runtime, inside._lua_expected_globals, *command)

    source = (files("dominus.orchestrator.engines.redis") / "scripts" / "sandbox.lua").read_bytes()
    # The names under which fakeredis looks for what it made itself at an earlier script.
    inside._lua_set_keys_argv = runtime.execute(source)(call, protected_call)
    inside._lua_expected_globals = set(runtime.globals().keys())
    inside._lua_current_socket = client
    inside._lua_runtime = runtime


def _no_attribute(_: object, name: object, is_setting: bool) -> Any:
    raise AttributeError(f"a script sets no {name!r}" if is_setting else f"a script sees no {name!r}")
