"""How log lines travel: made where they are written, redacted, buffered, spooled, and shipped by one task."""
