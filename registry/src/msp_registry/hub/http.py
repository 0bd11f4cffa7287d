"""The HTTP client for a hub: proxies from the environment, and private authorities."""

from pathlib import Path

import httpx

from msp_common.tls import trust

_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 30.0


def http_client(extra_ca_file: Path | None = None) -> httpx.AsyncClient:
    """Honours HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY. Raises BadCaFile.

    The number of connections is not limited here: who reads says how many there are at once.
    """
    return httpx.AsyncClient(
        verify=trust(extra_ca_file),
        timeout=httpx.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        headers={"User-Agent": "msp-registry"},
        trust_env=True,
    )
