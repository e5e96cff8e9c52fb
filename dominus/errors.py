"""Every failure that leaves a public method.

DominusError
├── ValidationError          400, 422   the request is wrong; also raised before anything is sent
├── AuthenticationError      401        the token is missing, wrong or expired
├── AuthorizationError       403        the token is fine and not allowed to do this
│   └── SecureTableError     403        a secure table was used without a reason (code `secure_table`)
├── NotFoundError            404
├── ConflictError            409
│   ├── LockNotAcquiredError 409        another holds the lock
│   └── LeaseLostError       409        the lock ran out while it was held
├── RateLimitError           429        `retry_after` says when
├── ServiceError             5xx        also an answer that is cut off, no JSON or of the wrong shape
│   ├── CircuitOpenError     503        not sent: the service failed too often, `retry_after` says when
│   └── GatewayError         502        the gateway of native sessions: not reached, or it refused
│       ├── GatewayResolutionError      nobody said where the gateway is
│       └── CredentialError             it made no database login
├── ProxyError                          the local endpoint of a native session failed
├── DominusTimeoutError      504        also a built-in TimeoutError
└── DominusConnectionError              also a built-in ConnectionError; the server was not reached
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "CircuitOpenError",
    "ConflictError",
    "CredentialError",
    "DominusConnectionError",
    "DominusError",
    "DominusTimeoutError",
    "GatewayError",
    "GatewayResolutionError",
    "LeaseLostError",
    "LockNotAcquiredError",
    "NotFoundError",
    "ProxyError",
    "RateLimitError",
    "SecureTableError",
    "ServiceError",
    "ValidationError",
    "error_from_status",
]


class DominusError(Exception):
    """The root of all errors of this package.

    Attributes:
        message: what happened, in one sentence, without secrets.
        code: a short word that programs can compare, for example `not_found`.
        status_code: the HTTP status, or the one that fits best when nothing was received.
        details: what the server added, for example the offending fields.
        endpoint: the operation or route that failed.
        request_id: the id under which the server logged the request.
        attempts: how often the request was sent.
        retryable: whether the same call may succeed later.
        hint: what to do about it.
    """

    default_code: ClassVar[str] = "error"
    default_status: ClassVar[int | None] = None
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status_code: int | None = None,
        details: Any = None,
        endpoint: str | None = None,
        request_id: str | None = None,
        attempts: int = 0,
        retryable: bool | None = None,
        hint: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.status_code = status_code if status_code is not None else self.default_status
        self.details = details
        self.endpoint = endpoint
        self.request_id = request_id
        self.attempts = attempts
        self.retryable = self.default_retryable if retryable is None else retryable
        self.hint = hint
        self.retry_after = retry_after

    def __str__(self) -> str:
        parts = [self.message]
        if self.hint:
            parts.append(f"Hint: {self.hint}")
        facts = {
            "endpoint": self.endpoint,
            "status": self.status_code,
            "code": self.code,
            "request_id": self.request_id,
            "attempts": self.attempts if self.attempts > 1 else None,
        }
        said = ", ".join(f"{name}={value}" for name, value in facts.items() if value is not None)
        return f"{' '.join(parts)} [{said}]"

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.message!r}, code={self.code!r}, status_code={self.status_code!r})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), dict(self.__dict__)))


def _rebuild(kind: type[DominusError], state: dict[str, Any]) -> DominusError:
    error = kind(state["message"])
    error.__dict__.update(state)
    return error


class ValidationError(DominusError):
    """A value is wrong. Nothing was changed; `details` lists the fields."""

    default_code = "validation"
    default_status = 400


class AuthenticationError(DominusError):
    """The token is missing, malformed, unknown or expired."""

    default_code = "authentication"
    default_status = 401


class AuthorizationError(DominusError):
    """The caller is known and may not do this."""

    default_code = "authorization"
    default_status = 403


class SecureTableError(AuthorizationError):
    """A secure table was used without a reason."""

    default_code = "secure_table"


class NotFoundError(DominusError):
    """What was named does not exist."""

    default_code = "not_found"
    default_status = 404


class ConflictError(DominusError):
    """The state of the server contradicts the request."""

    default_code = "conflict"
    default_status = 409


class LockNotAcquiredError(ConflictError):
    """Another holds the lock."""

    default_code = "lock_held"
    default_retryable = True


class LeaseLostError(ConflictError):
    """The lock ran out, or was taken over, while it was held."""

    default_code = "lease_lost"


class RateLimitError(DominusError):
    """Too many requests; `retry_after` is in seconds."""

    default_code = "rate_limited"
    default_status = 429
    default_retryable = True


class ServiceError(DominusError):
    """The server failed, or answered something that is not an answer."""

    default_code = "service"
    default_status = 500
    default_retryable = True


class CircuitOpenError(ServiceError):
    """Not sent: this service failed several times in a row. `retry_after` is in seconds."""

    default_code = "circuit_open"
    default_status = 503


class GatewayError(ServiceError):
    """The gateway of native sessions was not reached, or refused the connection."""

    default_code = "gateway"
    default_status = 502


class GatewayResolutionError(GatewayError):
    """The orchestrator did not say where the gateway is."""

    default_code = "gateway_resolution"


class CredentialError(GatewayError):
    """The orchestrator made no database login for a native session."""

    default_code = "gateway_credentials"


class ProxyError(DominusError):
    """The local endpoint of a native session could not be opened."""

    default_code = "proxy"


class DominusTimeoutError(DominusError, TimeoutError):
    """The deadline passed, here or on the server."""

    default_code = "timeout"
    default_status = 504
    default_retryable = True


class DominusConnectionError(DominusError, ConnectionError):
    """The server was not reached, or the connection broke before an answer."""

    default_code = "connection"
    default_retryable = True


# The one table status -> error, for both sides of the wire.
_BY_STATUS: Mapping[int, type[DominusError]] = {
    400: ValidationError,
    401: AuthenticationError,
    403: AuthorizationError,
    404: NotFoundError,
    409: ConflictError,
    422: ValidationError,
    429: RateLimitError,
    504: DominusTimeoutError,
}
_BY_CODE: Mapping[str, type[DominusError]] = {"secure_table": SecureTableError}
RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


def error_from_status(status: int, message: str, *, code: str | None = None, **facts: Any) -> DominusError:
    """Return (not raise) the typed error for an HTTP status; `facts` are the attributes of DominusError."""
    kind = _BY_STATUS.get(status) or (ServiceError if status >= 500 else DominusError)
    special = _BY_CODE.get(code or "")
    if special is not None and issubclass(special, kind):
        kind = special
    facts.setdefault("retryable", status in RETRYABLE_STATUSES)
    return kind(message, code=code, status_code=status, **facts)
