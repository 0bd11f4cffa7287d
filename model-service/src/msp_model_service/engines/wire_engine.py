"""An engine that speaks OpenAI's wire itself: requests and answers pass as bytes."""

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from msp_model_service.engines.lifecycle import Engine


@dataclass(frozen=True)
class WireRequest:
    """A request as it goes to the server."""

    path: str
    """OpenAI's path, such as `/v1/chat/completions`."""
    body: bytes
    content_type: str
    request_id: str | None = None


class WireAnswer(Protocol):
    """A good answer whose head has arrived. `aclose` ends the exchange, which makes the server stop."""

    content_type: str

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives. Raises UpstreamFailed when it breaks off."""

    async def aclose(self) -> None:
        """End the exchange. Harmless twice."""


class WireEngine(Engine, Protocol):
    """A server that answers the routes of its model's type by itself."""

    @property
    def model_name(self) -> str:
        """What the server calls the model."""

    def admitted(self) -> AbstractContextManager[None]:
        """Counts one request while the block lasts. Raises TooManyRequests."""

    def note_tokens(self, tokens: int) -> None:
        """The server made so many tokens; for the speed that is told."""

    async def open(self, request: WireRequest) -> WireAnswer:
        """Send it, and wait for the head of a good answer. Cancelling ends the exchange.

        Raises ApiError: the server's own error in our envelope, or that there is no server to ask.
        """
