"""The native clients behind sessions."""
