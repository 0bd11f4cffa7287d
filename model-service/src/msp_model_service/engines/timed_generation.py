"""A generation whose tokens are timed for the request that they belong to."""

from collections.abc import AsyncIterator

from msp_model_service.engines.chat import Generation, TokenEvent
from msp_model_service.request_record import CURRENT, TokenClock


class TimedGeneration:
    """Passes everything on."""

    def __init__(self, inner: Generation, clock: TokenClock) -> None:
        self._inner = inner
        self._clock = clock

    def __aiter__(self) -> AsyncIterator[TokenEvent]:
        return self

    async def __anext__(self) -> TokenEvent:
        event = await self._inner.__anext__()
        # Engines that are not told their tokens tell at least that there is text.
        self._clock.note(len(event.token_ids) or bool(event.text))
        return event

    async def aclose(self) -> None:
        """See Generation."""
        await self._inner.aclose()


def timed(generation: Generation) -> Generation:
    """The generation, timed where the current request has a record."""
    record = CURRENT.get()
    return generation if record is None else TimedGeneration(generation, record.token_clock())
