"""What the orchestrator stands on; each engine embedded or remote by its URL."""
