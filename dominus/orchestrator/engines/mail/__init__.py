"""Mails: templates, messages, and the relays that take them."""
