"""Bringing bytes into the store, verified."""
