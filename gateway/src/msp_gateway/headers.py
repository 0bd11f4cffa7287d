"""Which header fields cross the gateway, in either direction."""

from msp_gateway.fields import Fields
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
_AS_IS = (b"accept-encoding", b"identity")
# The gateway's server writes its own date; the rest would tell of the worker behind it.
_NOT_FOR_CLIENTS = HOP_BY_HOP | {b"date", b"server", b"set-cookie", b"x-request-id"}


def for_worker(fields: Fields, request_id: str) -> list[tuple[bytes, bytes]]:
    """The client's fields that go on, with the request id. The answer is asked for uncompressed, as is."""
    onward = fields.onward
    if onward is None:
        onward = fields.onward = [*_without(fields.raw, _NOT_FOR_WORKERS), _AS_IS]
    return [*onward, (b"x-request-id", request_id.encode())]


def for_client(worker_headers: RawHeaders, request_id: str) -> list[tuple[bytes, bytes]]:
    """The worker's fields that go on, with the request id."""
    fields = _without(worker_headers, _NOT_FOR_CLIENTS)
    fields.append((b"x-request-id", request_id.encode()))
    return fields


def value_of(headers: RawHeaders, name: bytes) -> bytes | None:
    """The first value of a field, by its name in lower case."""
    return dict(headers[::-1]).get(name)


def _without(headers: RawHeaders, dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    kept = [field for field in headers if field[0] not in dropped]
    if len(kept) == len(headers) or b"connection" not in dict(headers):
        return kept
    named = b",".join([value for name, value in headers if name == b"connection"])
    gone = {token.strip().lower() for token in named.split(b",")}
    return [field for field in kept if field[0] not in gone]
