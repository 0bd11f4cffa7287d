"""Which header fields cross the gateway, in either direction."""

from collections.abc import Iterable

from msp_gateway.upstream import RawHeaders

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that concern one connection only (RFC 9110, section 7.6.1)."""

# Who the client is, is the gateway's business: a worker may be an external server.
_NOT_FOR_WORKERS = HOP_BY_HOP | {
    b"accept-encoding",
    b"api-key",
    b"authorization",
    b"content-length",
    b"cookie",
    b"expect",
    b"host",
    b"x-api-key",
    b"x-client-request-id",
    b"x-request-id",
}
# The gateway's server writes its own date; the rest would tell of the worker behind it.
_NOT_FOR_CLIENTS = HOP_BY_HOP | {b"date", b"server", b"set-cookie", b"x-request-id"}


def for_worker(client_headers: RawHeaders, request_id: str) -> list[tuple[bytes, bytes]]:
    """The client's fields that go on, with the request id. The answer is asked for uncompressed, as is."""
    return [
        *_without(client_headers, _NOT_FOR_WORKERS),
        (b"accept-encoding", b"identity"),
        (b"x-request-id", request_id.encode()),
    ]


def for_client(worker_headers: RawHeaders, request_id: str) -> list[tuple[bytes, bytes]]:
    """The worker's fields that go on, with the request id."""
    return [*_without(worker_headers, _NOT_FOR_CLIENTS), (b"x-request-id", request_id.encode())]


def value_of(headers: RawHeaders, name: bytes) -> bytes | None:
    """The first value of a field, by its name in lower case."""
    return next((value for key, value in headers if key == name), None)


def _without(headers: RawHeaders, dropped: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    named = value_of(headers, b"connection") or b""
    gone = {*dropped, *(token.strip().lower() for token in named.split(b","))}
    return [(name, value) for name, value in headers if name not in gone]
