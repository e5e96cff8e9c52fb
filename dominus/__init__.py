"""One awaitable object for everything a backend needs around its business logic."""

from dominus._version import __version__

__all__ = ["__version__"]
