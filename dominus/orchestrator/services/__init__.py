"""The handlers: one module per service."""
