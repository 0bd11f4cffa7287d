"""The next token of every row: as transformers' filters would have it, each row by its own wishes."""

import random
from collections import Counter
from typing import Any

import pytest
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from msp_model_service.engines.chat import Sampling
from msp_model_service.engines.sampling import SamplingDefaults, TokenSampler
from msp_model_service.engines.slot import batch_sampler
from msp_model_service.engines.slot.batch_sampler import Choice, distribution
from msp_model_service.engines.slot.row_sampling import RowSampling
from support.slot_models import Letters

CPU = torch.device("cpu")


def wishes(size: int, prompt: tuple[int, ...] = (), **fields: Any) -> RowSampling:
    logprobs = fields.pop("top_logprobs", None)
    defaults = fields.pop("defaults", SamplingDefaults())
    return RowSampling(
        Sampling(**fields), defaults, prompt, vocabulary_size=size, device=CPU, top_logprobs=logprobs
    )


def chosen(logits: torch.Tensor, rows: list[RowSampling]) -> list[int]:
    made = batch_sampler.choose(logits, rows, Letters())
    assert all(isinstance(one, Choice) for one in made), made
    return [one.token_id for one in made if isinstance(one, Choice)]


def as_transformers_has_it(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities of one row after transformers' own filters."""
    filters: list[Any] = [TemperatureLogitsWarper(float(sampling.temperature or 1.0))]
    if sampling.top_k:
        filters.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p is not None:
        filters.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p is not None:
        filters.append(MinPLogitsWarper(sampling.min_p))
    for one in filters:
        scores = one(torch.zeros((1, 1), dtype=torch.long), scores)
    return scores.softmax(dim=-1)[0]


@pytest.mark.parametrize("size", [50, 5000])
def test_every_row_has_the_probabilities_of_transformers_filters(size: int) -> None:
    """Small vocabularies and large ones, of which only the likeliest tokens are sorted at first."""
    chance = random.Random(size)
    torch.manual_seed(size)
    asked = [
        Sampling(
            temperature=chance.choice([0.3, 1.0, 2.5]),
            top_k=chance.choice([None, 1, 5, 40, 3000]),
            top_p=chance.choice([None, 0.01, 0.5, 0.9, 0.999]),
            min_p=chance.choice([None, 0.01, 0.3]),
        )
        for _ in range(60)
    ]
    logits = (
        torch.randn(len(asked), size) * torch.tensor([chance.choice([0.1, 1.0, 5.0]) for _ in asked])[:, None]
    )
    for i in range(0, len(asked), 6):
        part = slice(i, i + 6)
        rows = [
            RowSampling(one, SamplingDefaults(), (), vocabulary_size=size, device=CPU) for one in asked[part]
        ]
        ids, weights = distribution(logits[part], rows)
        for at, sampling in enumerate(asked[part]):
            ours = torch.zeros(size).scatter(0, ids[at], weights[at] / weights[at].sum())
            right = as_transformers_has_it(logits[part][at : at + 1], sampling)
            # A token on top_p's very edge may be in or out by rounding alone.
            assert (ours - right).abs().sum() < 0.01, sampling


def test_nearly_flat_probabilities_keep_more_than_the_first_candidates() -> None:
    logits = torch.randn(1, 5000, generator=torch.Generator().manual_seed(6)) * 0.1
    _, weights = distribution(logits, [wishes(5000, temperature=1.0, top_p=0.9)])
    assert float(weights.sum()) == pytest.approx(0.9, abs=0.01)
    assert int((weights > 0).sum()) > 4000


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    row = wishes(4, temperature=1.0, seed=5)
    counts = Counter(chosen(logits, [row])[0] for _ in range(4000))
    for token_id, share in enumerate(logits.softmax(dim=-1)[0].tolist()):
        assert counts[token_id] / 4000 == pytest.approx(share, abs=0.03)


def test_what_is_ruled_out_is_never_drawn() -> None:
    logits = torch.randn(1, 100, generator=torch.Generator().manual_seed(0))
    kept = set(logits[0].topk(3).indices.tolist())
    row = wishes(100, temperature=50.0, top_k=3, seed=1)
    assert {chosen(logits, [row])[0] for _ in range(300)} == kept


def test_each_row_is_chosen_by_its_own_wishes() -> None:
    logits = torch.randn(1, 64, generator=torch.Generator().manual_seed(1)).expand(6, 64)
    best, second = logits[0].topk(2).indices.tolist()
    rows = [
        wishes(64, temperature=0.0),
        wishes(64, temperature=9.0, top_k=1),
        wishes(64, temperature=9.0, top_p=0.0),
        wishes(64, temperature=9.0, min_p=1.0),
        wishes(64, temperature=0.0, logit_bias={best: -100.0}),
        wishes(64, temperature=0.0, logit_bias={7: 100.0}),
    ]
    assert chosen(logits, rows) == [best, best, best, best, second, 7]


def test_a_seed_draws_the_same_alone_and_among_others() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(10, 3, 200, generator=generator)
    alone, among = wishes(200, temperature=1.0, seed=4), wishes(200, temperature=1.0, seed=4)
    others = [wishes(200, temperature=2.0), wishes(200, temperature=0.5, top_k=9)]
    for step in logits:
        assert chosen(step[1:2], [alone])[0] == chosen(step, [others[0], among, others[1]])[1]


@pytest.mark.parametrize(
    "fields",
    [
        {"repetition_penalty": 1.7},
        {"presence_penalty": 1.5},
        {"frequency_penalty": 0.7},
        {
            "repetition_penalty": 0.8,
            "presence_penalty": -1.0,
            "frequency_penalty": 0.5,
            "logit_bias": {3: 2.0},
        },
    ],
)
def test_penalties_are_those_of_the_plain_engine(fields: dict[str, Any]) -> None:
    prompt = (3, 5, 5, 9)
    plain = TokenSampler(
        Sampling(temperature=0, **fields), SamplingDefaults(), Letters(), top_logprobs=None, device=CPU
    )
    ours = wishes(40, prompt, temperature=0, **fields)
    generator = torch.Generator().manual_seed(3)
    said = list(prompt)
    for _ in range(30):
        logits = torch.randn(1, 40, generator=generator)
        right, _ = plain.choose(torch.tensor([said]), logits)
        assert chosen(logits, [ours]) == [right]
        said.append(right)


def test_the_models_defaults_hold_where_a_request_is_silent() -> None:
    defaults = SamplingDefaults(temperature=0.0, repetition_penalty=1e6)
    logits = torch.tensor([[5.0, 4.0, 3.0]])
    assert chosen(logits, [wishes(3, (0,), defaults=defaults)]) == [1]


def test_log_probabilities_are_of_the_raw_logits_and_only_for_those_who_ask() -> None:
    logits = torch.randn(3, 30, generator=torch.Generator().manual_seed(4))
    rows = [
        wishes(30, temperature=0.0, logit_bias={8: 100.0}, top_logprobs=2),
        wishes(30, temperature=0.0),
        wishes(30, temperature=0.0, top_logprobs=0),
    ]
    raw = logits.log_softmax(dim=-1)
    first, second, third = batch_sampler.choose(logits, rows, Letters())
    assert isinstance(first, Choice)
    assert first.logprob is not None
    assert (first.token_id, first.logprob.token_id) == (8, 8)
    assert first.logprob.logprob == pytest.approx(float(raw[0, 8]))
    assert [one.token_id for one in first.logprob.top] == raw[0].topk(2).indices.tolist()
    assert isinstance(second, Choice)
    assert second.logprob is None
    assert isinstance(third, Choice)
    assert third.logprob is not None
    assert third.logprob.top == ()


def test_a_row_without_numbers_fails_alone() -> None:
    logits = torch.zeros(2, 10)
    logits[1, 3] = float("nan")
    good, bad = batch_sampler.choose(
        logits, [wishes(10, temperature=1.0), wishes(10, temperature=1.0)], Letters()
    )
    assert isinstance(good, Choice)
    assert isinstance(bad, batch_sampler.NotANumber)


def test_logits_are_left_as_they_were() -> None:
    logits = torch.randn(1, 10)
    before = logits.clone()
    chosen(logits, [wishes(10, (1, 2), temperature=0.5, logit_bias={1: 3.0}, repetition_penalty=2.0)])
    assert torch.equal(logits, before)
