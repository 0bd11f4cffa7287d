"""Who asks, and whether the request may be worked on now."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

from starlette.datastructures import Headers

from msp_gateway.head import Head


@dataclass(frozen=True)
class Identity:
    """Whom a request is accounted to."""

    name: str


class Authenticator(Protocol):
    """Tells who asks, from the header fields alone: before a byte of the body is read."""

    @property
    def mode(self) -> Literal["off", "on"]:
        """Whether a key is required."""

    def authenticate(self, headers: Headers) -> Identity:
        """Raises Unauthenticated."""


class Admission(Protocol):
    """Lets requests in."""

    def admit(self, identity: Identity, head: Head) -> AbstractAsyncContextManager[None]:
        """A place that is held while the request is worked on. Raises Forbidden and TooManyRequests.

        Entering may wait; it is cancelled when the client leaves meanwhile.
        """


class OpenAuthenticator:
    """Everybody is let in, under one name."""

    mode: Literal["off", "on"] = "off"

    def authenticate(self, headers: Headers) -> Identity:
        """Never raises."""
        return Identity("anonymous")


class OpenAdmission:
    """Everything is let in at once."""

    def admit(self, identity: Identity, head: Head) -> AbstractAsyncContextManager[None]:
        """Never waits and never raises."""
        return nullcontext()
