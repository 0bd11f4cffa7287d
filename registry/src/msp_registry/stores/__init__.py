"""Stores: where bytes rest."""
