"""Makes clients cheap: of the usual authorities only some are read.

Every HTTP client reads the certificates of all authorities that the machine trusts, some 150, before it can
ask anything: 40 ms of a processor for each of the thousands that the tests make. No test meets a certificate
that one of them has signed.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import certifi

COUNT = 12
"""So many stay: enough to see that they are trusted beside a private one."""
_END = "-----END CERTIFICATE-----\n"


@contextmanager
def few_authorities(folder: Path) -> Iterator[None]:
    """Until the block ends, who reads a file of the usual authorities gets the beginning of certifi's.

    The files are certifi's, OpenSSL's own, and the machine's SSL_CERT_FILE. For this process alone: the
    programs that tests start read all. What a test names itself, a private authority for instance, is read
    as ever.
    """
    few = folder / "few.pem"
    few.write_text("".join(part + _END for part in certifi.contents().split(_END)[:COUNT]))
    usual = {certifi.where(), ssl.get_default_verify_paths().openssl_cafile}
    usual.update(filter(None, [os.environ.get("SSL_CERT_FILE")]))
    whole = ssl.SSLContext.load_verify_locations

    def load(
        context: ssl.SSLContext,
        cafile: str | bytes | PathLike[str] | PathLike[bytes] | None = None,
        capath: str | bytes | PathLike[str] | PathLike[bytes] | None = None,
        cadata: Any = None,
    ) -> None:
        if cafile in usual:
            cafile, capath = few, None
        whole(context, cafile, capath, cadata)

    ssl.SSLContext.load_verify_locations = load  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ssl.SSLContext.load_verify_locations = whole  # type: ignore[method-assign]
