"""The address of an S3 server as settings give it, and the HTTP pool towards it."""

import os
import socket
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

import certifi
import urllib3
from urllib3.connection import HTTPConnection
from urllib3.util.ssl_ import create_urllib3_context

from msp_common.tls import forgiving


@dataclass(frozen=True)
class S3Endpoint:
    """An S3 server: what minio's clients call `endpoint`, and whether it speaks TLS."""

    host: str
    """`name:port`, or only a name."""
    secure: bool

    @property
    def url(self) -> str:
        """For messages."""
        return f"{'https' if self.secure else 'http'}://{self.host}"


def parse_endpoint(text: str) -> S3Endpoint:
    """From `host:port` (plain HTTP), `http://host:port` or `https://host[:port]`. Raises ValueError."""
    url = urlsplit(text if "://" in text else f"http://{text}")
    try:
        fine = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        fine = False
    if not fine or url.path.strip("/") or url.query or url.username is not None:
        raise ValueError("expected host:port, http://host:port or https://host:port, without a path")
    return S3Endpoint(url.netloc, url.scheme == "https")


def http_pool(connections: int = 4, *, read_s: float = 60) -> urllib3.PoolManager:
    """Connections to an S3 server: certificates checked (SSL_CERT_FILE names a private CA), short retries.

    `read_s` is how long the server may be silent; one that has vanished is noticed within about two minutes.
    """
    return urllib3.PoolManager(
        maxsize=connections,
        timeout=urllib3.Timeout(connect=5, read=read_s),
        socket_options=_socket_options(),
        cert_reqs="CERT_REQUIRED",
        ssl_context=forgiving(create_urllib3_context()),
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        # Retry-After is not waited for: MinIO asks for a minute while it starts, and a thread would sleep it.
        retries=urllib3.Retry(
            total=3,
            backoff_factor=0.2,
            status_forcelist=[500, 502, 503, 504],
            respect_retry_after_header=False,
        ),
    )


def _socket_options() -> list[tuple[int, int, int]]:
    options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    if sys.platform == "linux":
        options += [
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6),
        ]
    return options
