"""The way in from files."""
