"""Who carries a request."""
