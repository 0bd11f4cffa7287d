"""Bearer tokens of our own programs: CLUSTER_TOKEN and REGISTRY_ADMIN_TOKEN."""

import secrets


def shows_token(authorization: str | None, token: str) -> bool:
    """Whether an Authorization header shows `token` as a bearer token. Comparing takes constant time."""
    scheme, _, shown = (authorization or "").partition(" ")
    # Header values arrive decoded as Latin-1, whatever bytes the client sent.
    same = secrets.compare_digest(shown.strip().encode("latin-1"), token.encode())
    return scheme.lower() == "bearer" and same
