"""Whose certificates are trusted by what asks other servers over TLS."""

import ssl
from pathlib import Path

import httpx

from msp_common.settings import SettingsError


class BadCaFile(SettingsError):
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
