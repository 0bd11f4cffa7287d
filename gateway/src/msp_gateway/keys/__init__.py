"""API keys: where they are kept, hashed, and how a request's key is recognised."""
