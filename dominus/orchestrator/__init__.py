"""The orchestrator: the server half. Nothing of it is imported by the SDK half, but for the embedded mode."""
