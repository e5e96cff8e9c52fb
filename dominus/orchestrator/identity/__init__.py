"""Who calls, and how that is proved."""
