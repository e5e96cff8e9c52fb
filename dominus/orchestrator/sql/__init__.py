"""Requests to SQL."""
