"""The master key of the tests' databases."""

from __future__ import annotations

from dominus.orchestrator.identity.vault import Vault

__all__ = ["keys"]


def keys() -> Vault:
    """Return a vault that is not started; each database has a key of its own in it."""
    return Vault([b"master key of the tests, 32 byte"])
