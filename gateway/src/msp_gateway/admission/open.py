"""No admission at all: everybody is let in, at once. For tests and for gateways without keys and queue."""

from types import TracebackType
from typing import Literal, Self

from msp_gateway.admission.identity import ANONYMOUS, Identity
from msp_gateway.admission.interfaces import Ask, Place
from msp_gateway.upstream import RawHeaders


class OpenAuthenticator:
    """Everybody is let in, under one name."""

    mode: Literal["off", "on"] = "off"

    def authenticate(self, authorization: str) -> Identity:
        """Never raises."""
        return ANONYMOUS


class OpenPlace:
    """A place among any number."""

    granted = True
    fields: RawHeaders = ()
    waited_s = 0.0

    async def wait(self) -> None:
        """Nobody waits."""

    def give_back(self) -> None:
        """Nothing was taken."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was taken."""


class OpenAdmission:
    """Everything is let in at once."""

    def admit(self, ask: Ask) -> Place:
        """Never waits and never raises."""
        return OpenPlace()
