"""Sockets, limits and tasks."""
