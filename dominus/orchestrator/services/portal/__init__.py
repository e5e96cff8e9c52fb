"""portal: logins, sessions, passwords, registration, profiles and navigation."""

from __future__ import annotations

from dominus.orchestrator.services.portal import (
    logins,
    navigation,
    passwords,
    profiles,
    registering,
    sessions,
)
from dominus.orchestrator.services.portal.purging import purge
from dominus.orchestrator.services.portal.registry import handlers

__all__ = ["handlers", "logins", "navigation", "passwords", "profiles", "purge", "registering", "sessions"]
