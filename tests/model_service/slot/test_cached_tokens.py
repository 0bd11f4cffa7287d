"""How much of a prompt the batching engine still had, told with each answer."""

from collections.abc import Iterator

import pytest

from msp_model_service.engines.slot.slot_chat import SlotChatEngine
from support import tiny_models
from support.chat_talk import events, talk
from support.slot_talk import engine_for


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlotChatEngine]:
    engine = engine_for(tiny_models.qwen2(tmp_path_factory.mktemp("qwen2")))
    yield engine
    engine.unload()


async def test_the_beginning_of_a_prompt_that_was_read_before_is_told(engine: SlotChatEngine) -> None:
    told = []
    for words in ("the quick brown fox", "the quick brown fox", "the quick brown dog"):
        prompt = await engine.prepare_chat(talk(words))
        usage = (await events(engine, prompt, max_tokens=2))[-1].usage
        assert usage is not None
        told.append((usage.cached_tokens, usage.prompt_tokens))
    [(first, read), (again, _), (other, _)] = told
    assert (first, again) == (0, read - 1)
    assert other is not None
    assert 0 < other < read - 1
