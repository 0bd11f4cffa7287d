"""Which authorities a client reads before it asks."""

import ssl


def authorities_for(url: str) -> ssl.SSLContext | bool:
    """What `verify` of httpx is to be for a client that asks this server alone and follows no redirect.

    Without TLS it trusts nobody: to read the usual authorities takes longer than the work of many a command.
    """
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if url.lower().startswith("http:") else True
