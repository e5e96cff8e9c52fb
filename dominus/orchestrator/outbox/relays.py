"""The relay that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dominus.errors import ServiceError, ValidationError
from dominus.hints import install_command

if TYPE_CHECKING:
    from dominus.orchestrator.engines.mail.relay import Relay
    from dominus.orchestrator.settings import ServerSettings

__all__ = ["relay_of"]


def relay_of(settings: ServerSettings) -> Relay | None:
    """Return what takes the mails; None: they stay in the outbox.

    Raises:
        ValidationError: settings are missing; the message names them.
        ServiceError: the library for SMTP is not installed.
    """
    if settings.courier_backend == "smtp":
        return _smtp(settings)
    if settings.courier_backend == "postmark":
        return _postmark(settings)
    return None


def _smtp(settings: ServerSettings) -> Relay:
    if not settings.courier_smtp_host:
        raise _missing("DOMINUS_COURIER_SMTP_HOST", "smtp")
    password = settings.courier_smtp_password
    if (settings.courier_smtp_user is None) != (password is None):
        raise ValidationError(
            "DOMINUS_COURIER_SMTP_USER and DOMINUS_COURIER_SMTP_PASSWORD go together", code="settings"
        )
    try:
        from dominus.orchestrator.engines.mail.smtp import SmtpRelay, SmtpServer
    except ModuleNotFoundError as error:
        raise ServiceError(
            f"the SMTP client is not installed: {error.name}",
            code="extra_missing",
            retryable=False,
            hint=f"install it with `{install_command('orchestrator')}`",
        ) from error
    server = SmtpServer(
        host=settings.courier_smtp_host,
        port=settings.courier_smtp_port or (465 if settings.courier_smtp_tls == "tls" else 587),
        tls=settings.courier_smtp_tls,
        user=settings.courier_smtp_user,
        password=password.get_secret_value() if password is not None else None,
    )
    return SmtpRelay(server, timeout=settings.courier_timeout)


def _postmark(settings: ServerSettings) -> Relay:
    token = settings.courier_postmark_token
    if token is None or not token.get_secret_value():
        raise _missing("DOMINUS_COURIER_POSTMARK_TOKEN", "postmark")
    from dominus.orchestrator.engines.mail.postmark import PostmarkRelay

    return PostmarkRelay(
        token.get_secret_value(),
        url=settings.courier_postmark_url,
        stream=settings.courier_postmark_stream,
        timeout=settings.courier_timeout,
    )


def _missing(name: str, backend: str) -> ValidationError:
    return ValidationError(f"DOMINUS_COURIER_BACKEND={backend} needs {name}", code="settings")
