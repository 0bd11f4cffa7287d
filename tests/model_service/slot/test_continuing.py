"""A model goes on with an answer that was begun elsewhere as if it had begun it itself."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from msp_common.contracts.model_type import ModelType
from msp_common.errors import InvalidRequest
from msp_model_service.chat.answer_forms import JsonForm
from msp_model_service.engines.chat import ChatEngine, PreparedPrompt, Sampling, TokenEvent
from msp_model_service.engines.generate_chat import GenerateChatEngine
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.slot.slot_chat import SlotChatEngine, SlotTuning
from support import tiny_models
from support.broken_streams import check_every_cut
from support.chat_fakes import chat_app, user
from support.chat_talk import GREEDY, events, ids, talk, text
from support.servers import run_server

CHAT = Path(__file__).parents[3] / "samples/chat"
SCHEMA: Any = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "東京"]}, "n": {"type": "integer"}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
WILD = Sampling(temperature=1.5, top_p=0.95, seed=7, presence_penalty=0.4, repetition_penalty=1.2)


def loaded(engine: str, folder: Path, type: ModelType = ModelType.LLM) -> ChatEngine:
    options = EngineOptions(device="cpu")
    made: ChatEngine
    if engine == "slot":
        tuning = SlotTuning(kv_tokens=16 * 512, cpu_dtype=lambda config: torch.float32)
        made = SlotChatEngine(options, type, tuning)
    else:
        made = GenerateChatEngine(options, type)
    made.load(folder, lambda phase, done: None)
    return made


@pytest.fixture(scope="module", params=["slot", "generate"])
def trained(request: pytest.FixtureRequest) -> Iterator[ChatEngine]:
    engine = loaded(request.param, CHAT)
    yield engine
    engine.unload()


@pytest.fixture(scope="module")
def worker(trained: ChatEngine) -> Iterator[str]:
    with ExitStack() as stack:
        yield stack.enter_context(run_server(chat_app(trained)))


@pytest.fixture(scope="module", params=["slot", "generate"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatEngine]:
    """Random weights: nonsense of bytes, which cuts characters everywhere."""
    engine = loaded(request.param, tiny_models.qwen2(tmp_path_factory.mktemp("qwen2")))
    yield engine
    engine.unload()


async def at_every_token(
    engine: ChatEngine, prompt: PreparedPrompt, sampling: Sampling = GREEDY, **fields: Any
) -> list[TokenEvent]:
    """The undisturbed answer, after whose every token another goes on and says the same."""
    right = await events(engine, prompt, sampling, **fields)
    made = ids(right)
    for count in range(1, len(made) + 1):
        again = await events(engine, prompt, sampling, begun=tuple(made[:count]), **fields)
        assert ids(again) == made, count
        assert [event.text for event in again] == [event.text for event in right]
        assert (again[-1].finish, again[-1].usage) == (right[-1].finish, right[-1].usage)
    return right


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [user("How do you say hello in Japanese?")]},
        {"messages": [user("How do you say hello in Japanese?")], "stop": ["ちは"]},
        {"messages": [user("What is the capital of France?")], "max_tokens": 4},
    ],
)
def test_a_trained_models_chat_cut_anywhere_says_the_same(worker: str, fields: Any) -> None:
    options = {"temperature": 0, "stream_options": {"include_usage": True}}
    right = check_every_cut(worker, "/v1/chat/completions", {**fields, **options})
    assert right.content
    assert right.usages[0]["completion_tokens"] == len(right.token_ids)


async def test_greedy_answers_are_the_same_from_every_token_on(tiny: ChatEngine) -> None:
    prompt = await tiny.prepare_chat(talk("hello"))
    right = await at_every_token(tiny, prompt, max_tokens=12, ignore_eos=True)
    assert "" in [event.text for event in right], "a character was cut somewhere"


async def test_so_are_sampled_ones_with_a_seed_and_penalties(tiny: ChatEngine) -> None:
    prompt = await tiny.prepare_text("once upon")
    await at_every_token(tiny, prompt, WILD, max_tokens=12, ignore_eos=True)
    penalised = Sampling(temperature=0, frequency_penalty=1.5, repetition_penalty=1.4)
    await at_every_token(tiny, prompt, penalised, max_tokens=12, ignore_eos=True)


@pytest.mark.parametrize("engine", ["slot", "generate"])
async def test_an_answer_about_a_picture_goes_on(engine: str, tmp_path: Path) -> None:
    seeing = await asyncio.to_thread(loaded, engine, tiny_models.llava(tmp_path), ModelType.MULTIMODAL)
    try:
        prompt = await seeing.prepare_chat(talk("look", Image.new("RGB", (20, 20), "red")))
        await at_every_token(seeing, prompt, max_tokens=6, ignore_eos=True)
    finally:
        await asyncio.to_thread(seeing.unload)


async def test_an_answer_of_a_form_goes_on_in_the_form(trained: ChatEngine) -> None:
    prompt = await trained.prepare_chat(talk("What is the capital of France?"))
    form = JsonForm(SCHEMA, "response_format")
    assert prompt.forms is not None

    async def answered(sampling: Sampling, begun: tuple[int, ...] = ()) -> list[TokenEvent]:
        assert prompt.forms is not None
        [grammar] = await prompt.forms.grammars(form, prompt, 1)
        return await events(trained, prompt, sampling, grammar=grammar, begun=begun, max_tokens=80)

    biased = Sampling(temperature=0)
    right = await answered(biased)
    made = ids(right)
    for count in range(1, len(made) + 1):
        assert text(await answered(biased, tuple(made[:count]))) == text(right)
    for seed in range(4):
        half = ids(await answered(Sampling(temperature=1, seed=seed)))
        other = await answered(Sampling(temperature=1, seed=seed + 9), tuple(half[: len(half) // 2]))
        assert ids(other)[: len(half) // 2] == half[: len(half) // 2]
        if other[-1].finish == "stop":
            assert set(json.loads(text(other))) == {"city", "n"}


async def test_tokens_that_the_form_rules_out_fail_this_request_alone(trained: ChatEngine) -> None:
    prompt = await trained.prepare_chat(talk("x"))
    assert prompt.forms is not None
    [grammar] = await prompt.forms.grammars(JsonForm(SCHEMA, "response_format"), prompt, 1)
    words = tuple((await trained.prepare_text("no JSON")).token_ids)
    with pytest.raises(InvalidRequest):
        await events(trained, prompt, grammar=grammar, begun=words)
    assert await events(trained, prompt, max_tokens=2)


async def test_ids_beyond_the_vocabulary_are_refused(trained: ChatEngine) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await events(trained, await trained.prepare_text("x"), begun=(10**6,))
    assert refused.value.param == "continue"


async def test_many_go_on_beside_each_other(tiny: ChatEngine) -> None:
    prompts = [await tiny.prepare_text(f"text {i}") for i in range(4)]
    alone = [await events(tiny, prompt, max_tokens=12, ignore_eos=True) for prompt in prompts]
    again = await asyncio.gather(
        *(
            events(tiny, prompt, max_tokens=12, ignore_eos=True, begun=tuple(ids(made)[: 3 * i]))
            for i, (prompt, made) in enumerate(zip(prompts, alone, strict=True))
        )
    )
    assert [ids(made) for made in again] == [ids(made) for made in alone]
