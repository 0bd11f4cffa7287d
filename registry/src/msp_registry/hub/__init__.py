"""The way in from a hub."""
