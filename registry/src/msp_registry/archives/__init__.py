"""Snapshots as tar streams."""
