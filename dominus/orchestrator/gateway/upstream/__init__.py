"""What the gateway leads to."""
