"""The HTTP client for a hub: proxies from the environment, and whose certificates are trusted."""

import ssl
from pathlib import Path

import httpx

_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 30.0


class BadCaFile(ValueError):
    """EXTRA_CA_FILE cannot be used."""


def trust(extra_ca_file: Path | None) -> ssl.SSLContext:
    """The usual authorities (certifi's, or SSL_CERT_FILE's), and those of the file. Raises BadCaFile."""
    context = httpx.create_ssl_context()
    if extra_ca_file is not None:
        try:
            context.load_verify_locations(extra_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise BadCaFile(f"EXTRA_CA_FILE={extra_ca_file} holds no certificates (PEM): {error}") from None
    return context


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
