"""The gateway: accepts native connections, asks who they are, and ties each to the database it may reach.

A refusal has one of these codes, and is logged and counted:

    bad_handshake          the first bytes are no handshake; also garbage, and oversized lengths
    handshake_timeout      they did not come in time
    token_expired, token_invalid, ...   as the verifier says
    wrong_target           the token opens another target than the one named
    unknown_target         there is no such target, or no such endpoint of it
    forbidden              the token lacks the target's scope
    bad_startup            what follows is no startup message of PostgreSQL
    startup_refused        it asks for another login or database than the session's own
    too_many_connections   of this principal
    gateway_full           of all
    upstream_unavailable   the database does not answer
    upstream_refused       the database refuses the gateway's own login
    draining               the gateway is about to end
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from dominus.contract.handshake import Hello, encode_reply
from dominus.errors import DominusError, ServiceError
from dominus.orchestrator.gateway.greeting import Greeting
from dominus.orchestrator.gateway.limits import Admission, Limits, why_end
from dominus.orchestrator.gateway.metrics import GatewayMetrics, GatewayStats
from dominus.orchestrator.gateway.tunnel import Tunnel
from dominus.orchestrator.gateway.upstream.connection import Upstream, open_upstream
from dominus.orchestrator.net.addresses import Addresses, AddressLimits
from dominus.orchestrator.net.listener import BACKLOG, bind
from dominus.orchestrator.net.rate_limit import RateLimiter

if TYPE_CHECKING:
    from dominus.orchestrator.gateway.upstream.targets import Screen, Target
    from dominus.orchestrator.identity.principal import Principal
    from dominus.orchestrator.identity.tokens import SessionGrant

__all__ = ["Gateway"]

_log = logging.getLogger("dominus.gateway")

SWEEP_SECONDS = 1.0
DRAIN_SECONDS = 0.05
QUIET_SECONDS = 0.25
"""A connection that waits for no answer and was quiet for so long is closed when the gateway drains."""
LAST_SECONDS = 2.0
"""For connections that were cut off to be gone."""
LOG_LINES_PER_SECOND, LOG_BURST = 1.0, 20.0
"""Of refusals with the same code: whoever knocks must not fill the disk. The metrics count all."""


class _RefusedError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Gateway:
    """One listening socket of one event loop; several targets behind it."""

    def __init__(
        self,
        targets: Mapping[str, Target],
        verify_session: Callable[[str], Awaitable[SessionGrant]],
        *,
        limits: Limits | None = None,
        metrics: GatewayMetrics | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing listens before `start`.

        Args:
            targets: what it leads to, by name.
            verify_session: returns what a token opens; raises DominusError for one that opens nothing.
            limits: of this gateway.
            metrics: where it counts.
            tls: its certificate; None: in clear text.
            clock: seconds, for ages and idle times.
        """
        self.targets = dict(targets)
        self._verify, self._clock, self._tls = verify_session, clock, tls
        self._limits = limits or Limits()
        self._metrics = metrics or GatewayMetrics()
        self._admission = Admission(self._limits)
        self._lines = RateLimiter(LOG_LINES_PER_SECOND, LOG_BURST)
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._greetings: dict[Greeting, None] = {}
        self._silent: dict[Greeting, None] = {}
        self._addresses: Addresses[Greeting] = Addresses(
            AddressLimits(unfinished=self._limits.pending_per_address)
        )
        self._tunnels: set[Tunnel] = set()
        self._openings: set[asyncio.Task[None]] = set()
        self._is_draining = False

    @property
    def stats(self) -> GatewayStats:
        """How it stands."""
        for tunnel in self._tunnels:
            self._count_bytes(tunnel)
        metrics = self._metrics
        return GatewayStats(
            active=len(self._tunnels),
            pending=len(self._greetings),
            opened_count=metrics.opened_count,
            refused=dict(metrics.refused),
            ended=dict(metrics.ended),
            received_bytes=metrics.received_bytes,
            sent_bytes=metrics.sent_bytes,
        )

    async def start(self, where: socket.socket | tuple[str, int]) -> tuple[str, int]:
        """Listen, on a socket that is bound already (and closed with the gateway) or at host and port.

        Returns host and port, as the socket has them.

        Raises:
            ConflictError: the port is taken.
            ValidationError: the address cannot be used.
        """
        listener = where if isinstance(where, socket.socket) else bind(*where)
        seconds = self._limits.handshake
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Greeting(self, seconds),
            sock=listener,
            ssl=self._tls,
            ssl_handshake_timeout=seconds if self._tls is not None else None,
            backlog=BACKLOG,
        )
        self._sweeper = asyncio.create_task(self._keep_sweeping(), name="dominus-gateway")
        name = listener.getsockname()
        return str(name[0]), int(name[1])

    async def drain(self, grace: float) -> None:
        """Take no new connections, let those that wait for an answer have it, and end.

        A connection between two questions, as far as bytes tell, is closed at once; the others when they are
        answered, or after `grace` seconds.
        """
        self._is_draining = True
        if self._server is not None:
            self._server.close()
        for greeting in list(self._greetings):
            greeting.refuse("draining", "the gateway is about to end")
        deadline = self._clock() + grace
        while (self._tunnels or self._greetings) and self._clock() < deadline:
            for tunnel in list(self._tunnels):
                state = tunnel.look(self._clock())
                if not state.is_closing and not tunnel.is_waiting and state.quiet_for >= QUIET_SECONDS:
                    tunnel.close("draining")
            await asyncio.sleep(DRAIN_SECONDS)
        await self._end()

    async def stop(self) -> None:
        """End now. Doing so twice is fine."""
        await self.drain(0.0)

    async def _end(self) -> None:
        for tunnel in list(self._tunnels):
            tunnel.abort("draining")
        for greeting in list(self._greetings):
            greeting.transport.abort()
        tasks = [*self._openings, *([self._sweeper] if self._sweeper is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        deadline = time.monotonic() + LAST_SECONDS
        while (self._tunnels or self._greetings) and time.monotonic() < deadline:  # noqa: ASYNC110 - ended by many
            await asyncio.sleep(0)
        server, self._server, self._sweeper = self._server, None, None
        if server is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), LAST_SECONDS)

    # --- at the door (greeting.Doorkeeper)

    def came(self, greeting: Greeting) -> None:
        """Wait for its handshake; where too many are silent, the one that is so for longest goes."""
        self._greetings[greeting] = self._silent[greeting] = None
        in_the_way = self._addresses.begin(greeting.peer, greeting, self._clock())
        if self._is_draining:
            greeting.refuse("draining", "the gateway is about to end")
        elif len(self._silent) > self._limits.pending:
            next(iter(self._silent)).refuse("gateway_full", "too many connections do not say who they are")
        elif in_the_way is not None:
            in_the_way.refuse("gateway_full", "too many connections of this address do not say who they are")

    def asked(self, greeting: Greeting, hello: Hello) -> None:
        """Open the way to what it wants."""
        self._spoke(greeting)
        task = asyncio.create_task(self._open(greeting, hello))
        greeting.opening = task
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)

    def sent_away(self, greeting: Greeting, code: str, message: str) -> None:
        """Count it, and say so."""
        self._spoke(greeting)
        named = greeting.hello.target if greeting.hello is not None else None
        self._metrics.was_refused(named if named in self.targets else "", code)
        if not self._lines.take(code):
            _log.warning("a connection from %s was refused: %s: %s", greeting.peer, code, message)

    def left(self, greeting: Greeting) -> None:
        """Forget it."""
        self._greetings.pop(greeting, None)
        self._spoke(greeting)

    def _spoke(self, greeting: Greeting) -> None:
        self._silent.pop(greeting, None)
        self._addresses.finish(greeting.peer, greeting)

    # --- from the door to the database

    async def _open(self, greeting: Greeting, hello: Hello) -> None:
        try:
            async with asyncio.timeout(self._limits.connect) as deadline:
                await self._lead(greeting, hello, deadline)
        except (_RefusedError, DominusError) as error:
            greeting.refuse(error.code, error.message)
        except TimeoutError:
            greeting.refuse("upstream_unavailable", "the database does not answer in time")
        except Exception:  # noqa: BLE001 - logged; the client is told, and the others go on
            _log.exception("a connection could not be opened")
            greeting.refuse("internal", "the gateway failed; its log says why")

    async def _lead(self, greeting: Greeting, hello: Hello, deadline: asyncio.Timeout) -> None:
        grant = await self._verify(hello.token)
        target = self._target_of(grant, hello)
        subject = grant.principal.subject
        if no_room := self._admission.why_not(subject):
            raise _RefusedError(*no_room)
        self._admission.enter(subject)
        is_tied = False
        try:
            transport, upstream = await open_upstream(target.addresses[hello.endpoint], target.login)
            try:
                if target.screen is not None:
                    # It has a time of its own: the client's.
                    deadline.reschedule(None)
                    await self._screen(greeting, hello, target.screen, grant.principal)
                is_tied = self._tie(greeting, hello, (target.name, subject), transport, upstream)
            finally:
                if not is_tied:
                    transport.abort()
        finally:
            if not is_tied:
                self._admission.leave(subject)

    async def _screen(self, greeting: Greeting, hello: Hello, screen: Screen, principal: Principal) -> None:
        """Hear what the client asks of the database before the database does."""
        greeting.answer(b"" if hello.is_published else encode_reply(), screen.goodbye)
        try:
            async with asyncio.timeout(self._limits.handshake):
                await screen.admit(greeting, principal)
        except TimeoutError:
            raise _RefusedError("handshake_timeout", "the startup message took too long") from None
        except ConnectionError as error:
            raise _RefusedError("bad_startup", str(error)) from None

    def _target_of(self, grant: SessionGrant, hello: Hello) -> Target:
        if hello.target not in (None, grant.target):
            raise _RefusedError("wrong_target", "the token is for another target")
        target = self.targets.get(grant.target)
        if target is None:
            raise _RefusedError("unknown_target", f"there is no target {grant.target!r} here")
        if not grant.principal.may(target.scope):
            raise _RefusedError("forbidden", f"the token lacks the scope {target.scope!r}")
        if hello.endpoint >= len(target.addresses):
            raise _RefusedError("unknown_target", f"{target.name} has {len(target.addresses)} endpoints")
        return target

    def _tie(
        self,
        greeting: Greeting,
        hello: Hello,
        names: tuple[str, str],
        transport: asyncio.Transport,
        upstream: Upstream,
    ) -> bool:
        """Tie both connections together; False when one of them is gone already."""
        reply = b"" if hello.is_published or greeting.is_answered else encode_reply()
        if greeting.is_lost or greeting.transport.is_closing():
            return False
        if upstream.is_lost:
            if not upstream.received:
                raise ServiceError("the database hung up", code="upstream_unavailable", status_code=503)
            # What it said before it hung up is the reason, in its own words.
            greeting.part_with(reply + upstream.received)
            return False
        tunnel = Tunnel(*names, greeting.transport, transport, self._ended, self._clock())
        self._greetings.pop(greeting, None)
        self._tunnels.add(tunnel)
        self._metrics.opened(tunnel.target)
        if reply:
            greeting.transport.write(reply)
        tunnel.start(from_client=greeting.rest, from_upstream=bytes(upstream.received))
        for side, has_ended in ((tunnel.client, greeting.has_ended), (tunnel.upstream, upstream.has_ended)):
            if has_ended:
                tunnel.end(side)
        return True

    def _ended(self, tunnel: Tunnel) -> None:
        self._tunnels.discard(tunnel)
        self._admission.leave(tunnel.subject)
        self._count_bytes(tunnel)
        reason = tunnel.closing_reason or "client"
        self._metrics.closed(tunnel.target, reason)
        _log.info(
            "a connection to %s has ended: %s, by %s, %d bytes in, %d out",
            *(tunnel.target, tunnel.subject, reason),
            *(tunnel.client.byte_count, tunnel.upstream.byte_count),
        )

    # --- what time brings

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                self.sweep()
            except Exception:  # noqa: BLE001 - logged; the next sweep may work
                _log.exception("the gateway's sweep failed")

    def sweep(self) -> None:
        """End the connections whose time is over, and count what has passed; once a second."""
        now = self._clock()
        for tunnel in list(self._tunnels):
            self._count_bytes(tunnel)
            reason = why_end(tunnel.look(now), self._limits)
            if reason == "lingering":
                tunnel.abort(reason)
            elif reason is not None:
                tunnel.close(reason)

    def _count_bytes(self, tunnel: Tunnel) -> None:
        received, sent = tunnel.take_counts()
        if received or sent:
            self._metrics.passed(tunnel.target, received, sent)
