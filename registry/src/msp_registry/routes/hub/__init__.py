"""The hub's protocol, read-only."""
