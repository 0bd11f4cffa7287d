"""Where a request goes: the server's address out of a URL, and what the request's head says of it."""

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from msp_gateway.upstream import RawHeaders, UpstreamRefused


class Origin(NamedTuple):
    """A server: connections to one origin serve each other's requests."""

    tls: bool
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """One URL, taken apart. `start` is the beginning of the request's head, up to the Content-Length."""

    origin: Origin
    start: bytes


def target_of(url: str) -> Target:
    """Raises UpstreamRefused for a URL that nobody can connect to."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UpstreamRefused(f"{url!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UpstreamRefused(f"{url!r} is no http:// or https:// URL")
    tls = parts.scheme == "https"
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = f"?{quote(parts.query, safe='/?%:@!$&()*+,;=~-._')}" if parts.query else ""
    # User and password of a URL are no part of the Host field.
    host = quote(parts.netloc.rpartition("@")[2], safe="[]:.-_~%")
    start = f"POST {path}{query} HTTP/1.1\r\nhost: {host}\r\ncontent-length: ".encode()
    return Target(Origin(tls, parts.hostname, port or (443 if tls else 80)), start)


def request_head(target: Target, headers: RawHeaders, size_bytes: int) -> bytes:
    """The request's head, its empty line included. The fields come from a parser: they hold no line ends."""
    return b"\r\n".join([b"%b%d" % (target.start, size_bytes), *map(b": ".join, headers), b"", b""])
