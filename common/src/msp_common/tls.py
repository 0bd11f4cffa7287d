"""Whose certificates are trusted by what asks other servers over TLS."""

import ssl
from pathlib import Path

import httpx

from msp_common.settings import SettingsError


class BadCaFile(SettingsError):
    """EXTRA_CA_FILE cannot be used."""


def forgiving(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context, judging by signature, name and dates alone, as Python did before 3.13.

    From 3.13 on its defaults refuse what breaks RFC 5280 in form. Private authorities and proxies that look
    into TLS often do: they leave out the key usage or the authority's key identifier.
    """
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def trust(extra_ca_file: Path | None) -> ssl.SSLContext:
    """The usual authorities (certifi's, or SSL_CERT_FILE's), and those of the file. Raises BadCaFile."""
    context = forgiving(httpx.create_ssl_context())
    if extra_ca_file is not None:
        try:
            context.load_verify_locations(extra_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise BadCaFile(f"EXTRA_CA_FILE={extra_ca_file} holds no certificates (PEM): {error}") from None
    return context
