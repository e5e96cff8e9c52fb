"""The orchestrator as a process: settings to running engines, on a port or inside a program."""
