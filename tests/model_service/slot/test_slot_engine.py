"""The batching engine as clients meet it: events, leaving, limits, failures, images, unloading."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from msp_common.contracts.model_type import ModelType
from msp_common.errors import ContextTooLong, InternalError, InvalidRequest, TooManyRequests, Unavailable
from msp_model_service.chat.conversation import Conversation, Message, Role, Text
from msp_model_service.engines.chat import (
    GenerationRequest,
    PreparedPrompt,
    Sampling,
)
from msp_model_service.engines.generate_chat import GenerateChatEngine
from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions
from msp_model_service.engines.slot.slot_chat import SlotChatEngine
from support import tiny_models
from support.chat_talk import GREEDY, events, ids, talk, text
from support.slot_talk import engine_for
from support.tiny_models import CONTEXT


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.qwen2(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="module")
def qwen(qwen_folder: Path) -> Iterator[SlotChatEngine]:
    engine = engine_for(qwen_folder)
    yield engine
    engine.unload()


@pytest.fixture(scope="module")
def plain(qwen_folder: Path) -> Iterator[GenerateChatEngine]:
    engine = GenerateChatEngine(EngineOptions(device="cpu"), ModelType.LLM)
    engine.load(qwen_folder, lambda phase, done: None)
    yield engine
    engine.unload()


def endless(prompt: PreparedPrompt, tokens: int = 400) -> GenerationRequest:
    return GenerationRequest(prompt, GREEDY, ignore_eos=True, max_tokens=tokens)


async def test_events_are_those_of_the_plain_engine(qwen: SlotChatEngine, plain: GenerateChatEngine) -> None:
    """Text, tokens, log probabilities, stop sequences and usage, of many at once."""
    asked: list[tuple[str, dict[str, Any]]] = [
        ("hello", {"max_tokens": 30}),
        ("漢字 and 🙂", {"max_tokens": 12, "top_logprobs": 3}),
        ("answers come one token after the other " * 9, {"max_tokens": 25}),
        ("the quick", {"max_tokens": 40, "stop": ("e", "qu")}),
        ("", {"max_tokens": 1}),
    ]
    prompts = [await qwen.prepare_chat(talk(words)) for words, _ in asked]
    together = await asyncio.gather(
        *(events(qwen, prompt, **fields) for prompt, (_, fields) in zip(prompts, asked, strict=True))
    )
    for (words, fields), ours in zip(asked, together, strict=True):
        right = await events(plain, await plain.prepare_chat(talk(words)), **fields)
        assert (text(ours), ids(ours), ours[-1].finish) == (text(right), ids(right), right[-1].finish)
        assert ours[-1].usage == right[-1].usage
        tops = [[one.token_id for one in lp.top] for event in ours for lp in event.logprobs]
        assert tops == [[one.token_id for one in lp.top] for event in right for lp in event.logprobs]


async def test_the_end_token_ends_the_answer_unless_ignored(qwen: SlotChatEngine) -> None:
    prompt = await qwen.prepare_chat(talk("hello"))
    end = Sampling(temperature=0, logit_bias={2: 100.0})
    (event,) = await events(qwen, prompt, end, max_tokens=5)
    assert (event.text, event.finish) == ("", "stop")
    assert len(await events(qwen, prompt, end, max_tokens=5, ignore_eos=True)) == 5


async def test_an_answer_without_limit_gets_what_the_context_has_left(qwen: SlotChatEngine) -> None:
    prompt = await qwen.prepare_text([70] * (CONTEXT - 3))
    made = await events(qwen, prompt, ignore_eos=True)
    assert (len(ids(made)), made[-1].finish) == (3, "length")


async def test_many_are_answered_at_once(qwen: SlotChatEngine) -> None:
    prompt = await qwen.prepare_text("the")
    taken = [qwen.generate(endless(prompt)) for _ in range(6)]
    for generation in taken:
        await anext(generation)
    load = qwen.load_now()
    assert (load.in_flight, load.queued, load.slots) == (6, 0, 32)
    assert load.tokens_per_s
    for generation in taken:
        await generation.aclose()
    await events(qwen, prompt, max_tokens=1)
    assert qwen.load_now().in_flight == 0


async def test_the_queue_is_bounded_and_who_leaves_makes_room(qwen_folder: Path) -> None:
    engine = engine_for(qwen_folder, max_rows=2, max_queued=1)
    prompt = await engine.prepare_text("the")
    taken = [engine.generate(endless(prompt)) for _ in range(3)]
    await anext(taken[0])
    await anext(taken[1])
    with pytest.raises(TooManyRequests) as caught:
        engine.generate(endless(prompt))
    assert caught.value.retry_after_s
    load = engine.load_now()
    assert (load.in_flight, load.queued, load.slots) == (2, 1, 2)
    await taken[2].aclose()
    taken.append(engine.generate(endless(prompt)))
    for generation in taken:
        await generation.aclose()
    assert ids(await events(engine, prompt, max_tokens=3))
    engine.unload()


async def test_an_ended_answer_makes_room_even_if_nobody_closes_it(qwen_folder: Path) -> None:
    engine = engine_for(qwen_folder, max_rows=1, max_queued=0)
    prompt = await engine.prepare_text("the")
    first = engine.generate(endless(prompt, 3))
    with pytest.raises(TooManyRequests):
        engine.generate(endless(prompt))
    assert len([event async for event in first]) == 3
    assert len(ids(await events(engine, prompt, max_tokens=2, ignore_eos=True))) == 2
    engine.unload()


async def test_what_is_told_for_metrics_follows_the_batch(qwen_folder: Path) -> None:
    engine = engine_for(qwen_folder)
    prompt = await engine.prepare_text("the quick brown fox " * 5)
    running = engine.generate(endless(prompt))
    await anext(running)
    busy = engine.figures()
    assert busy.batch_rows == 1
    assert busy.kv_used is not None
    assert 0 < busy.kv_used < 0.1
    await running.aclose()
    await events(engine, prompt, max_tokens=1)
    idle = engine.figures()
    assert (idle.batch_rows, idle.kv_used) == (0, 0.0)
    assert idle.prompt_tokens_reused == len(prompt.token_ids) - 1
    engine.unload()


async def test_who_waits_too_long_is_told_while_others_go_on(qwen_folder: Path) -> None:
    engine = engine_for(qwen_folder, max_rows=1, queue_deadline_s=0.05)
    prompt = await engine.prepare_text("the")
    running = engine.generate(endless(prompt, 500))
    await anext(running)
    with pytest.raises(Unavailable, match="waited") as caught:
        await events(engine, prompt, max_tokens=1)
    assert caught.value.retry_after_s
    assert (await anext(running)).finish is None
    await running.aclose()
    engine.unload()


async def test_five_hundred_readers_who_leave_cost_nothing(qwen_folder: Path) -> None:
    """No row, no thread and no memory stays behind, wherever in its life a request was left."""
    engine = engine_for(qwen_folder, max_rows=8)
    prompts = [await engine.prepare_text("the quick brown fox " * n) for n in (1, 9, 20)]
    await events(engine, prompts[0], max_tokens=1)
    threads = threading.active_count()
    left: list[weakref.ref[Any]] = []
    for _ in range(50):
        taken = [engine.generate(endless(prompts[i % 3])) for i in range(10)]
        await anext(taken[0])
        for generation in taken:
            await generation.aclose()
            left.append(weakref.ref(generation))
        del taken, generation
    whole = await events(engine, prompts[0], max_tokens=3)
    load = engine.load_now()
    assert (load.in_flight, load.queued) == (0, 0)
    assert threading.active_count() == threads
    running = engine._ready()
    assert running.batch.idle
    assert all(not row.busy for row in running.batch._rows)
    assert running.loop._open == set()
    gc.collect()
    # The last ones may still be named by a variable of a loop.
    assert sum(one() is not None for one in left) <= 2
    assert len(whole) == 3
    engine.unload()


async def test_what_kills_others_batching_does_no_harm(qwen: SlotChatEngine, qwen_folder: Path) -> None:
    """Five ordinary inputs after which transformers' continuous batching answers nobody any more."""
    good = await qwen.prepare_text("the quick brown")
    beside = asyncio.create_task(events(qwen, good, max_tokens=60, ignore_eos=True))
    assert len(await events(qwen, good, Sampling(temperature=0.0), max_tokens=3, ignore_eos=True)) == 3
    with pytest.raises(InvalidRequest):
        await qwen.prepare_text("")
    with pytest.raises(InvalidRequest):
        qwen.generate(GenerationRequest(PreparedPrompt(())))
    twice = await asyncio.gather(*(events(qwen, good, max_tokens=5) for _ in range(2)))
    assert ids(twice[0]) == ids(twice[1])
    small = engine_for(qwen_folder, kv_tokens=128)
    with pytest.raises(ContextTooLong, match="128"):
        small.generate(GenerationRequest(await small.prepare_text([70] * 200)))
    with pytest.raises(ContextTooLong, match="128"):
        small.generate(GenerationRequest(await small.prepare_text([70] * 100), max_tokens=100))
    half = await small.prepare_text([70] * 60)
    grown = await asyncio.gather(*(events(small, half, ignore_eos=True) for _ in range(3)))
    assert [len(ids(made)) for made in grown] == [68] * 3
    assert small.capabilities().context_length == 128
    small.unload()
    assert len(ids(await beside)) == 60
    assert qwen.problem() is None


async def test_a_failure_is_the_failing_requests_alone(qwen_folder: Path) -> None:
    """However often it is repeated: the engine is examined and found sound."""
    engine = engine_for(qwen_folder)
    model = engine._ready().loaded.model
    hook = model.model.register_forward_pre_hook(_refuse_bad_words, with_kwargs=True)
    good, bad = await engine.prepare_text("the"), await engine.prepare_text([70, 333])
    results = await asyncio.gather(
        events(engine, good, max_tokens=3, ignore_eos=True),
        *(events(engine, bad, max_tokens=3) for _ in range(7)),
        events(engine, good, max_tokens=3, ignore_eos=True),
        return_exceptions=True,
    )
    first, *failed, last = results
    assert all(isinstance(result, InternalError) for result in failed)
    assert isinstance(first, list)
    assert isinstance(last, list)
    assert ids(first) == ids(last)
    for _ in range(5):
        with pytest.raises(InternalError):
            await events(engine, bad, max_tokens=3)
    assert engine.problem() is None
    hook.remove()
    engine.unload()


def _refuse_bad_words(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
    if bool((kwargs["input_ids"] == 333).any()):
        raise RuntimeError("cannot read this")


def _refuse_all(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
    raise RuntimeError("nothing works")


def _lose_device(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
    raise torch.AcceleratorError("illegal memory access")


async def test_an_engine_that_fails_everyone_says_that_it_is_broken(qwen_folder: Path) -> None:
    engine = engine_for(qwen_folder)
    prompt = await engine.prepare_text("the")
    engine._ready().loaded.model.model.register_forward_pre_hook(_refuse_all, with_kwargs=True)
    for _ in range(3):
        with pytest.raises(InternalError):
            await events(engine, prompt, max_tokens=3)
    await asyncio.to_thread(engine._ready().loop._thread.join, 10)
    problem = engine.problem()
    assert problem is not None
    assert "nothing works" in problem
    with pytest.raises(Unavailable, match="nothing works"):
        engine.generate(GenerationRequest(prompt))
    engine.unload()


async def test_a_lost_device_ends_everyone_at_once_and_says_so(qwen_folder: Path) -> None:
    engine = engine_for(qwen_folder, max_rows=2)
    prompt = await engine.prepare_text("the")
    running = [engine.generate(endless(prompt)) for _ in range(3)]
    await anext(running[0])
    engine._ready().loaded.model.model.register_forward_pre_hook(_lose_device, with_kwargs=True)
    for generation in running:
        with pytest.raises(Unavailable, match="illegal memory access"):
            [event async for event in generation]
    problem = engine.problem()
    assert problem is not None
    assert "new process" in problem
    engine.unload()


async def test_unloading_ends_what_runs_and_what_waits(qwen_folder: Path) -> None:
    engine = engine_for(qwen_folder, max_rows=1)
    prompt = await engine.prepare_text("the")
    running, waiting = engine.generate(endless(prompt)), engine.generate(endless(prompt))
    await anext(running)
    loop = engine._ready().loop
    await asyncio.to_thread(engine.unload)
    for generation in (running, waiting):
        with pytest.raises(Unavailable):
            [event async for event in generation]
    with pytest.raises(Unavailable):
        engine.generate(endless(prompt))
    assert not loop._thread.is_alive()


async def test_a_later_turn_costs_only_its_new_words(qwen: SlotChatEngine) -> None:
    turn = [Message(Role.USER, (Text("tell me of the quick brown fox " * 8),))]
    made = await events(
        qwen, await qwen.prepare_chat(Conversation(tuple(turn))), max_tokens=10, ignore_eos=True
    )
    turn += [Message(Role.ASSISTANT, (Text(text(made)),)), Message(Role.USER, (Text("and the dog?"),))]
    prompt = await qwen.prepare_chat(Conversation(tuple(turn)))
    before = qwen.tally().read
    await events(qwen, prompt, max_tokens=3)
    assert qwen.tally().read - before < 40 < len(prompt.token_ids)


def test_a_folder_that_is_no_model_says_so(tmp_path: Path) -> None:
    engine = SlotChatEngine(EngineOptions(device="cpu"), ModelType.LLM)
    with pytest.raises(EngineLoadFailed, match="llm"):
        engine.load(tmp_path, lambda phase, done: None)
    engine.unload()
