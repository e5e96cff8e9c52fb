"""courier: mails from templates, in an outbox that loses none."""

from __future__ import annotations

from dominus.orchestrator.services.courier import outbox, sending, templates
from dominus.orchestrator.services.courier.registry import handlers

__all__ = ["handlers", "outbox", "sending", "templates"]
