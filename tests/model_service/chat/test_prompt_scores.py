"""Log probabilities of a prompt's own tokens, with a tiny random model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from msp_common.contracts.model_type import ModelType
from msp_common.errors import ContextTooLong
from msp_model_service.engines.chat import GenerationRequest, Sampling
from msp_model_service.engines.generate_chat import GenerateChatEngine
from msp_model_service.engines.lifecycle import EngineOptions
from support import tiny_models
from support.tiny_models import CONTEXT

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.qwen2(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="module")
def qwen(qwen_folder: Path) -> Iterator[GenerateChatEngine]:
    engine = GenerateChatEngine(EngineOptions(device="cpu"), ModelType.LLM)
    engine.load(qwen_folder, lambda phase, done: None)
    yield engine
    engine.unload()


async def test_a_prompt_is_scored_as_one_forward_pass_would(
    qwen: GenerateChatEngine, qwen_folder: Path
) -> None:
    """Longer than what is read at once: going on from the cache must change nothing."""
    ids = [i % 300 + 10 for i in range(0, 900, 3)]
    prompt = await qwen.prepare_text(ids)
    assert prompt.scorable
    request = GenerationRequest(prompt, sampling=GREEDY, max_tokens=0, top_logprobs=3, score_prompt=True)
    (event,) = [event async for event in qwen.generate(request)]
    assert (event.finish, event.usage and event.usage.completion_tokens) == ("length", 0)
    first, *others = event.prompt_tokens
    assert first.logprob is None
    model = AutoModelForCausalLM.from_pretrained(qwen_folder, dtype=torch.float32)
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    for at, token in enumerate(others):
        assert token.logprob is not None
        assert token.logprob.token_id == ids[at + 1]
        assert token.logprob.logprob == pytest.approx(float(expected[at, ids[at + 1]]), abs=1e-3)
        assert token.logprob.top[0].logprob == pytest.approx(float(expected[at].max()), abs=1e-3)
    going_on = GenerationRequest(prompt, sampling=GREEDY, max_tokens=2, top_logprobs=0, score_prompt=True)
    told = [event async for event in qwen.generate(going_on)]
    assert [len(event.prompt_tokens) for event in told] == [len(ids), 0]


async def test_a_whole_context_can_be_scored_but_not_gone_on_with(qwen: GenerateChatEngine) -> None:
    prompt = await qwen.prepare_text([5] * CONTEXT)
    request = GenerationRequest(prompt, max_tokens=0, top_logprobs=0, score_prompt=True)
    (event,) = [event async for event in qwen.generate(request)]
    assert len(event.prompt_tokens) == CONTEXT
    with pytest.raises(ContextTooLong):
        qwen.generate(GenerationRequest(prompt, max_tokens=1))
