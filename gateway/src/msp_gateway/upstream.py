"""What the relay needs of an HTTP client, and how that client says what went wrong.

UpstreamError
├── UpstreamRefused   no connection, so nothing was sent
├── UpstreamReset     the connection ended before the answer did
└── UpstreamGarbage   what came back is no HTTP
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from msp_gateway.body import Body

RawHeaders = Sequence[tuple[bytes, bytes]]


class UpstreamError(Exception):
    """The exchange with a worker failed; the text says how, for the log and never for the client."""


class UpstreamRefused(UpstreamError):
    """No connection, so nothing was sent."""


class UpstreamReset(UpstreamError):
    """The connection ended before the answer did."""


class UpstreamGarbage(UpstreamError):
    """What came back is no HTTP."""


@dataclass(slots=True, eq=False)
class UpstreamRequest:
    """A POST to a worker. `headers` are final but for Host and Content-Length."""

    url: str
    headers: RawHeaders
    body: Body


class AnswerHead(Protocol):
    """What an answer begins with."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> RawHeaders:
        """Header fields as they came, names in lower case."""


class UpstreamResponse(AnswerHead, Protocol):
    """An answer whose head has arrived."""

    @property
    def ended(self) -> bool:
        """Whether the body has been read to its end, as far as is known without waiting."""

    def read(self) -> Awaitable[bytes]:
        """The body's next bytes, undecoded; empty at its end. Raises UpstreamReset, UpstreamGarbage."""

    def close(self) -> None:
        """End the exchange. Where the body has not ended, close the connection, which tells the worker."""


class Upstream(Protocol):
    """Talks to workers."""

    async def open(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send the request and wait for the head of the answer, without limit of time.

        Cancelling closes the connection at once. Raises UpstreamError.
        """


class SentRequest(Protocol):
    """A request that was sent, or is about to be, and whose answer has not been taken yet."""

    async def answer(self) -> UpstreamResponse:
        """As `Upstream.open`, from here on."""
