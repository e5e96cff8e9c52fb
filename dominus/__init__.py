"""One awaitable object for everything a Python backend needs around its business logic.

from dominus import dominus

await dominus.get("DATABASE_URL")
await dominus.db.query("users", filters={"status": "active"})
"""

from dominus._version import __version__
from dominus.client import Dominus, RetryPolicy, SecureAccessContext, dominus
from dominus.errors import (
    AuthenticationError,
    AuthorizationError,
    CircuitOpenError,
    ConflictError,
    CredentialError,
    DominusConnectionError,
    DominusError,
    DominusTimeoutError,
    GatewayError,
    GatewayResolutionError,
    LeaseLostError,
    LockNotAcquiredError,
    NotFoundError,
    ProxyError,
    RateLimitError,
    SecureTableError,
    ServiceError,
    ValidationError,
)

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "CircuitOpenError",
    "ConflictError",
    "CredentialError",
    "Dominus",
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
    "RetryPolicy",
    "SecureAccessContext",
    "SecureTableError",
    "ServiceError",
    "ValidationError",
    "__version__",
    "dominus",
]


def __getattr__(name: str) -> object:
    # `import dominus; dominus.db` is a natural slip: the object has the name of its module.
    hint = ": write `from dominus import dominus`" if hasattr(Dominus, name) else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
