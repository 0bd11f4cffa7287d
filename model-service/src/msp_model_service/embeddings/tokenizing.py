"""Tokenizing on arrival: off the event loop, and by turns, so that a large request holds up nobody."""

from collections.abc import Iterator, Sequence
from functools import partial

import anyio
from anyio import to_thread

from msp_model_service.embeddings import inputs
from msp_model_service.engines.embedder import Embedder, EmbedderLimits

TURN_CHARACTERS = 32_000
"""Text of one turn: some ten milliseconds."""

AT_ONCE_CHARACTERS = 1_000
"""Text that is tokenized sooner than a thread is woken for it."""

CHARACTERS_PER_TOKEN = 32
"""A text with so many times the model's tokens is refused by its beginning, if that is too long already."""

CERTAIN_EXCESS = 1.1
"""How much too long a beginning must be: where it was cut off, a few tokens may differ from the whole's."""


class Tokenizing:
    """What all requests of a worker share for it."""

    def __init__(self) -> None:
        # Waiters get it in the order of asking; a large request asks again for every turn.
        self._one = anyio.CapacityLimiter(1)

    async def ids(
        self, engine: Embedder, given: inputs.Texts | inputs.TokenLists, *, single: bool
    ) -> list[list[int]]:
        """The ids that the model will read. Raises InvalidRequest for what is not within its limits."""
        limits = engine.limits()
        texts = [item for item in given if isinstance(item, str)]
        lists = [item for item in given if not isinstance(item, str)]
        if lists:
            inputs.check_vocabulary(lists, limits.vocabulary, single=single)
            ids = [engine.complete(item) for item in lists]
        elif sum(map(len, texts)) <= AT_ONCE_CHARACTERS:
            ids = engine.tokenize(texts)
        else:
            return await self._by_turns(engine, texts, limits, single=single)
        inputs.check_lengths(ids, limits, single=single)
        return ids

    async def _by_turns(
        self, engine: Embedder, texts: Sequence[str], limits: EmbedderLimits, *, single: bool
    ) -> list[list[int]]:
        ids: list[list[int]] = []
        for turn in turns([len(text) for text in texts]):
            part = [texts[index] for index in turn]
            beginning = max(TURN_CHARACTERS, CHARACTERS_PER_TOKEN * limits.max_tokens)
            if len(part[0]) > beginning:
                [start] = await self._tokenize(engine, [part[0][:beginning]])
                if len(start) > CERTAIN_EXCESS * limits.max_tokens:
                    raise inputs.too_long(turn[0], f"at least {len(start)}", limits, single=single)
            ids += await self._tokenize(engine, part)
            inputs.check_lengths(ids, limits, single=single)
        return ids

    async def _tokenize(self, engine: Embedder, texts: Sequence[str]) -> list[list[int]]:
        return await to_thread.run_sync(partial(engine.tokenize, texts), limiter=self._one)


def turns(lengths: Sequence[int], characters: int = TURN_CHARACTERS) -> Iterator[range]:
    """Indices of texts, in order, that are tokenized in one turn; a longer text has a turn of its own."""
    begin = size = 0
    for index, length in enumerate(lengths):
        if index > begin and size + length > characters:
            yield range(begin, index)
            begin, size = index, 0
        size += length
    if begin < len(lengths):
        yield range(begin, len(lengths))
