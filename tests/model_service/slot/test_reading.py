"""Prompts on their way through the model: several together, and scored token by token."""

import random
from typing import Any

import pytest
import torch

from msp_model_service.engines.chat import GenerationRequest, PreparedPrompt, Sampling
from msp_model_service.engines.slot import accepting
from msp_model_service.engines.slot.row_attention import Group, groups
from support.architectures import SERVED
from support.slot_models import Answer, Table, build, generated, some_words

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def qwen() -> Any:
    return build("Qwen2", SERVED["Qwen2"])


def calls_of(model: Any, table: Table) -> int:
    """How many forward passes one step takes."""
    made: list[int] = []
    hook = model.register_forward_pre_hook(lambda *_: made.append(1))
    table.step()
    hook.remove()
    return len(made)


@pytest.mark.parametrize("name", ["Qwen2", "Qwen2 sliding", "Mistral sliding", "Gemma2", "GPT2", "Falcon"])
def test_a_burst_of_short_prompts_is_read_at_once_and_answered_as_alone(name: str) -> None:
    """Also where some begin with what a row holds, and where windows slide within the prompts."""
    model = build(name, SERVED[name])
    chance = random.Random(7)
    table = Table(model, rows=12, prefill=400)
    known = some_words(chance, 70)
    table.ask(known, 3)
    table.finish()
    prompts = [some_words(chance, n) for n in (1, 12, 45, 3, 60)] + [known[:40] + some_words(chance, 9)]
    answers = [table.ask(prompt, 6)[1] for prompt in prompts]
    assert calls_of(model, table) == 2, "one to read, one to decode"
    table.finish()
    assert [one.ids for one in answers] == [generated(model, prompt, 6) for prompt in prompts]


def test_who_cannot_be_read_fails_alone_though_read_with_others(qwen: Any) -> None:
    def refuse(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if bool((kwargs["input_ids"] == 333).any()):
            raise RuntimeError("cannot read this")

    chance = random.Random(8)
    good = [[token for token in some_words(chance, 30) if token != 333] for _ in range(3)]
    hook = qwen.register_forward_pre_hook(refuse, with_kwargs=True)
    table = Table(qwen, prefill=300)
    answers = [table.ask(prompt, 1)[1] for prompt in (good[0], [5, 333, 6], *good[1:])]
    table.finish()
    hook.remove()
    assert answers[1].error is not None
    assert [answers[i].ids for i in (0, 2, 3)] == [generated(qwen, prompt, 1) for prompt in good]


def test_long_beginnings_are_not_looked_at_together(qwen: Any) -> None:
    """A row each holds them already; side by side they would have to be copied."""
    chance = random.Random(12)
    known = [some_words(chance, 300) for _ in range(2)]
    table = Table(qwen, rows=8, prefill=64)
    for prompt in known:
        table.ask(prompt, 1)
        table.finish()
    prompts = [prompt + some_words(chance, 9) for prompt in known]
    answers = [table.ask(prompt, 4)[1] for prompt in prompts]
    assert calls_of(qwen, table) == 3, "one for each prompt, one to decode"
    table.finish()
    assert [one.ids for one in answers] == [generated(qwen, prompt, 4) for prompt in prompts]


def test_neighbours_of_about_one_length_are_looked_at_together() -> None:
    assert groups([(0, 100), (0, 100), (0, 120), (0, 900), (0, 890)]) == [
        Group((0, 3), (0, 120), padded=True),
        Group((3, 5), (0, 900), padded=True),
    ]
    assert groups([(0, 7), (0, 7)]) == [Group((0, 2), (0, 7), padded=False)]


def scored(table: Table, prompt: list[int], max_tokens: int) -> Answer:
    request = GenerationRequest(
        PreparedPrompt(tuple(prompt), continues=True), GREEDY, top_logprobs=2, score_prompt=True
    )
    answer = Answer()
    sequence = accepting.sequence_for(table.loaded, request, answer, key=len(prompt), max_tokens=max_tokens)
    table.batch.waiting.append(sequence)
    return answer


@pytest.mark.parametrize("prefill", [64, 1000])
def test_a_prompts_tokens_are_scored_as_one_forward_pass_would(qwen: Any, prefill: int) -> None:
    """In pieces, beside others, and though a row holds the prompt already."""
    chance = random.Random(9)
    prompt = some_words(chance, 300)
    table = Table(qwen, prefill=prefill)
    table.ask(prompt, 2)
    table.finish()
    table.ask(some_words(chance, 20), 30)
    only, going_on = scored(table, prompt, 0), scored(table, prompt[:200], 4)
    table.finish()
    with torch.inference_mode():
        right = qwen(torch.tensor([prompt])).logits[0].log_softmax(-1)
    (event,) = only.events
    assert (event.finish, event.usage and event.usage.completion_tokens) == ("length", 0)
    assert [len(one.prompt_tokens) for one in going_on.events] == [200, 0, 0, 0]
    assert going_on.ids == generated(qwen, prompt[:200], 4)
    for tokens in (event.prompt_tokens, going_on.events[0].prompt_tokens):
        assert tokens[0].logprob is None
        for at, token in enumerate(tokens[1:]):
            assert token.logprob is not None
            assert token.logprob.token_id == prompt[at + 1]
            assert token.logprob.logprob == pytest.approx(float(right[at, prompt[at + 1]]), abs=1e-3)
            assert token.logprob.top[0].logprob == pytest.approx(float(right[at].max()), abs=1e-3)
    assert table.batch.idle


def test_a_scored_prompt_that_loses_its_row_is_scored_from_its_beginning(qwen: Any) -> None:
    prompt = some_words(random.Random(10), 200)
    table = Table(qwen, prefill=64)
    answer = scored(table, prompt, 1)
    table.step()
    table.batch._preempt(table.batch.running[0])
    table.finish()
    (told,) = (one.prompt_tokens for one in answer.events)
    with torch.inference_mode():
        right = qwen(torch.tensor([prompt])).logits[0].log_softmax(-1)
    expected = [float(right[at, token_id]) for at, token_id in enumerate(prompt[1:])]
    assert [token.logprob and token.logprob.logprob for token in told[1:]] == pytest.approx(
        expected, abs=1e-3
    )
