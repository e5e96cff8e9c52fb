"""What a handler is given, and how it is registered."""
