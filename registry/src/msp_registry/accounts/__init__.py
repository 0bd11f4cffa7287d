"""The limited account in a store's server."""
