"""The registry's HTTP routes."""
