"""SMTP, with TLS from the start or by STARTTLS; a connection is used for several mails."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from typing import Literal

import aiosmtplib

from dominus.orchestrator.engines.mail.message import Mail, to_mime
from dominus.orchestrator.engines.mail.relay import Delivery, plain

__all__ = ["SmtpRelay", "SmtpServer"]

_LOST = (OSError, TimeoutError, aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError)
# They mean us, and not the mail: authentication, TLS.
BEFORE_DATA = 0.75
"""The part of a try's time in which the relay has to be ready for the mail."""
_OURS = {421, 454, 530, 534, 535, 538}


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where, and as whom."""

    host: str
    port: int
    tls: Literal["starttls", "tls", "none"]
    user: str | None = None
    password: str | None = field(default=None, repr=False)


class SmtpRelay:
    """Hands mails to one SMTP server."""

    def __init__(self, server: SmtpServer, *, timeout: float) -> None:
        """Prepare; connections are made when they are needed.

        Args:
            server: where to.
            timeout: seconds for each answer.
        """
        self._server = server
        self._timeout = timeout
        self._idle: list[aiosmtplib.SMTP] = []
        self._tls = None if server.tls == "none" else ssl.create_default_context()

    async def deliver(self, mail: Mail) -> Delivery:
        """Try once."""
        message = to_mime(mail)
        # A relay that is silent before it has the mail must not use up the try: that would look as if it had taken it.
        ends = asyncio.get_running_loop().time() + self._timeout * BEFORE_DATA
        try:
            async with asyncio.timeout_at(ends):
                connection = await self._connected()
        except (aiosmtplib.SMTPException, *_LOST, ValueError) as error:
            return Delivery(error=_said("not reached", error), is_away=True)
        try:
            delivery = await self._hand_over(connection, mail, message, ends)
        except BaseException:
            connection.close()
            raise
        if delivery.is_uncertain or delivery.is_away or not connection.is_connected:
            connection.close()
        else:
            self._idle.append(connection)
        return delivery

    async def rest(self) -> None:
        """Say goodbye on idle connections."""
        while self._idle:
            connection = self._idle.pop()
            with contextlib.suppress(aiosmtplib.SMTPException, *_LOST):
                await connection.quit(timeout=1.0)
            connection.close()

    async def aclose(self) -> None:
        """Close everything."""
        await self.rest()

    async def _connected(self) -> aiosmtplib.SMTP:
        while self._idle:
            connection = self._idle.pop()
            # Servers close what was quiet for some time, and what a mail before left undone must not reach this one.
            try:
                await connection.rset()
            except BaseException as error:
                connection.close()
                if not isinstance(error, (aiosmtplib.SMTPException, *_LOST)):
                    raise
            else:
                return connection
        server = self._server
        connection = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.tls == "tls",
            start_tls=server.tls == "starttls",
            username=server.user,
            password=server.password,
            tls_context=self._tls,
            timeout=self._timeout,
        )
        await connection.connect()
        return connection

    async def _hand_over(
        self, connection: aiosmtplib.SMTP, mail: Mail, message: bytes, ends: float
    ) -> Delivery:
        refused: dict[str, str] = {}
        accepted: list[str] = []
        put_off: str | None = None
        try:
            async with asyncio.timeout_at(ends):
                await connection.mail(mail.sender_address)
                for recipient in mail.recipients:
                    try:
                        await connection.rcpt(recipient)
                        accepted.append(recipient)
                    except aiosmtplib.SMTPRecipientRefused as error:
                        if error.code in _OURS:
                            raise
                        if error.code >= 500:
                            refused[recipient] = _answer(error)
                        else:
                            put_off = _answer(error)
        except aiosmtplib.SMTPResponseException as error:
            return _not_taken(mail, error)
        except (aiosmtplib.SMTPException, *_LOST, ValueError) as error:
            return Delivery(error=_said("lost before the mail was sent", error), is_away=True)
        if not accepted:
            return Delivery(refused=refused, error=put_off)
        try:
            await connection.data(message)
        except aiosmtplib.SMTPResponseException as error:
            return _not_taken(mail, error, refused)
        except (aiosmtplib.SMTPException, *_LOST) as error:
            said = _said("lost before it said whether it took the mail", error)
            return Delivery(refused=refused, error=said, is_uncertain=True)
        return Delivery(tuple(accepted), refused, put_off)


def _not_taken(
    mail: Mail, error: aiosmtplib.SMTPResponseException, refused: dict[str, str] | None = None
) -> Delivery:
    said = _answer(error)
    if error.code in _OURS:
        return Delivery(error=said, is_away=True)
    if error.code >= 500:
        return Delivery(refused={**dict.fromkeys(mail.recipients, said), **(refused or {})})
    return Delivery(refused=refused or {}, error=said)


def _answer(error: aiosmtplib.SMTPResponseException) -> str:
    return plain(f"{error.code} {error.message}")


def _said(what: str, error: Exception) -> str:
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return _answer(error)
    # Its text may quote what was sent, a login included.
    return f"{what}: {type(error).__name__}"
