"""The one place that knows the version."""

__version__ = "3.0.0"
