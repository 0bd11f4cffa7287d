"""Keeping what is stored right: verify, scrub, collect."""
