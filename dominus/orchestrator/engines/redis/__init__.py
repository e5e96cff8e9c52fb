"""Redis: the client and its scripts."""
