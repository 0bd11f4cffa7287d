"""Tokenizing by turns: a large request holds up nobody, and what is too long is refused soon."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from msp_common.errors import ContextTooLong, InvalidRequest
from msp_model_service.embeddings.tokenizing import (
    AT_ONCE_CHARACTERS,
    CHARACTERS_PER_TOKEN,
    TURN_CHARACTERS,
    Tokenizing,
    turns,
)
from msp_model_service.engines.embedder import EmbedderLimits
from msp_model_service.engines.fake_embedder import FakeEmbedder
from msp_model_service.engines.lifecycle import EngineOptions

PATIENCE_S = 10.0


class RememberingEmbedder(FakeEmbedder):
    """Remembers the size and the thread of each call."""

    def __init__(self, max_tokens: int = 100_000) -> None:
        super().__init__(EngineOptions())
        self.max_tokens = max_tokens
        self.characters: list[int] = []
        self.threads: list[threading.Thread] = []

    def limits(self) -> EmbedderLimits:
        return EmbedderLimits(max_tokens=self.max_tokens, vocabulary=super().limits().vocabulary)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        self.characters.append(sum(map(len, texts)))
        self.threads.append(threading.current_thread())
        return super().tokenize(texts)


async def test_a_short_text_is_tokenized_at_once_and_a_long_one_in_a_thread() -> None:
    engine = RememberingEmbedder()
    await Tokenizing().ids(engine, ["short"], single=True)
    await Tokenizing().ids(engine, ["long " * AT_ONCE_CHARACTERS], single=True)
    own = threading.current_thread()
    assert [thread is own for thread in engine.threads] == [True, False]


async def test_ids_come_in_the_order_of_the_texts_however_many_turns_they_take() -> None:
    engine = RememberingEmbedder()
    texts = [f"{'word ' * 1000}{number}" for number in range(50)]
    ids = await Tokenizing().ids(engine, texts, single=False)
    assert len(engine.characters) > 5
    assert max(engine.characters) <= TURN_CHARACTERS
    assert ids == FakeEmbedder(EngineOptions()).tokenize(texts)


async def test_another_request_gets_its_turn_between_those_of_a_large_one() -> None:
    began, go = threading.Event(), threading.Event()

    class Gated(RememberingEmbedder):
        def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
            began.set()
            assert go.wait(PATIENCE_S)
            return super().tokenize(texts)

    engine, tokenizing = Gated(), Tokenizing()
    large = asyncio.create_task(tokenizing.ids(engine, ["w " * 10_000] * 20, single=False))
    await asyncio.to_thread(began.wait, PATIENCE_S)
    small = asyncio.create_task(tokenizing.ids(engine, ["w " * 1000], single=True))
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(large, small)
    assert engine.characters.index(2000) <= 2


async def test_a_text_that_is_far_too_long_is_refused_by_its_beginning() -> None:
    engine = RememberingEmbedder(max_tokens=100)
    with pytest.raises(ContextTooLong, match=r"'input\.1' has at least \d+ tokens.*at most 100") as refused:
        await Tokenizing().ids(engine, ["fine", "word " * 2_000_000], single=False)
    assert refused.value.param == "input.1"
    assert max(engine.characters) == max(TURN_CHARACTERS, CHARACTERS_PER_TOKEN * 100)


async def test_a_text_that_is_long_for_its_spaces_only_is_taken() -> None:
    engine = RememberingEmbedder(max_tokens=100)
    [ids] = await Tokenizing().ids(engine, ["word" + " " * 1_000_000 + "word"], single=True)
    assert len(ids) == 4


async def test_texts_after_one_that_is_too_long_are_not_tokenized() -> None:
    engine = RememberingEmbedder(max_tokens=100)
    texts = ["word " * 200, *(["word " * 50] * 2000)]
    with pytest.raises(ContextTooLong, match=r"'input\.0' has 202 tokens"):
        await Tokenizing().ids(engine, texts, single=False)
    assert len(engine.characters) == 1


async def test_too_many_tokens_in_all_are_refused_before_all_are_counted() -> None:
    engine = RememberingEmbedder()
    with pytest.raises(InvalidRequest, match="at most 300000") as refused:
        await Tokenizing().ids(engine, ["w " * 10_000] * 2000, single=False)
    assert refused.value.param == "input"
    assert sum(engine.characters) < 1_000_000


async def test_token_ids_are_completed_and_counted_with_what_was_added() -> None:
    engine = RememberingEmbedder(max_tokens=4)
    assert await Tokenizing().ids(engine, [[5, 6]], single=True) == [[0, 5, 6, 1]]
    with pytest.raises(ContextTooLong, match="5 tokens"):
        await Tokenizing().ids(engine, [[5, 6, 7]], single=True)


def test_turns_hold_so_many_characters_or_one_text() -> None:
    assert [list(turn) for turn in turns([3, 3, 5, 20, 1, 1], characters=10)] == [[0, 1], [2], [3], [4, 5]]
    assert list(turns([], 10)) == []
