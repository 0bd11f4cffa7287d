"""Steps of a batch: everyone gets the same tokens under any mix of arrivals and departures."""

import os
import random
from dataclasses import dataclass, replace
from typing import Any

import pytest

from msp_model_service.engines.chat import Sampling
from msp_model_service.engines.slot.scheduler import GRAIN
from support.architectures import SERVED
from support.slot_models import Table, build, generated, some_words

LONG = bool(os.environ.get("MSP_LONG"))
FUZZ_REQUESTS = 400 if LONG else 60


@pytest.fixture(scope="module")
def qwen() -> Any:
    return build("Qwen2", SERVED["Qwen2"])


@dataclass
class Asked:
    prompt: list[int]
    tokens: int
    sampling: Sampling | None
    right: list[int]


def sampling_of(chance: random.Random) -> Sampling | None:
    """Greedy half of the time, else anything, always with a seed."""
    if chance.random() < 0.5:
        return None
    return Sampling(
        temperature=chance.choice([0.0, 0.7, 1.5]),
        top_p=chance.choice([None, 0.5, 0.95]),
        top_k=chance.choice([None, 1, 7]),
        min_p=chance.choice([None, 0.05]),
        seed=chance.randrange(1000),
        presence_penalty=chance.choice([0.0, 1.0]),
        frequency_penalty=chance.choice([0.0, 0.5]),
        repetition_penalty=chance.choice([None, 1.2]),
        logit_bias=chance.choice([{}, {70: 5.0, 71: -100.0}]),
    )


def alone(model: Any, prompt: list[int], tokens: int, sampling: Sampling | None) -> list[int]:
    """What a request gets with nobody beside it; by `generate` where its choice is the same."""
    if sampling is None:
        return generated(model, prompt, tokens)
    table = Table(model)
    _, answer = table.ask(prompt, tokens, sampling)
    table.finish()
    return answer.ids


def asked_of(model: Any, chance: random.Random, count: int) -> list[Asked]:
    made = []
    said: list[list[int]] = []
    for _ in range(count):
        prompt = some_words(chance, chance.choice([1, 2, 9, 30, 80, 160]))
        if said and chance.random() < 0.3:  # the next turn of a conversation, or the same question again
            prompt = chance.choice(said) + prompt[: chance.randrange(20)]
        tokens = chance.randint(1, 40)
        sampling = sampling_of(chance)
        right = alone(model, prompt, tokens, sampling)
        if len(prompt) + tokens < 250:
            said.append(prompt + right)
        made.append(Asked(prompt, tokens, sampling, right))
    return made


@pytest.mark.parametrize("seed", [int(os.environ.get("MSP_SEED", "1"))])
def test_fuzz_of_arrivals_departures_lengths_budgets_and_sampling(qwen: Any, seed: int) -> None:
    """Whatever happens beside it, every request gets the tokens that it gets alone.

    MSP_SEED takes another seed, MSP_LONG=1 many thousand steps; a failure names its seed.
    """
    chance = random.Random(seed)
    asked = asked_of(qwen, chance, FUZZ_REQUESTS)
    for rows, prefill, kv_tokens in ((1, 16, 512), (3, 33, 3 * 512), (8, 64, 6 * GRAIN), (32, 512, 10**6)):
        table = Table(qwen, rows=rows, prefill=prefill, kv_tokens=kv_tokens)
        going = []
        for one in asked:
            sequence, answer = table.ask(one.prompt, one.tokens, one.sampling)
            going.append((one, sequence, answer))
            for _ in range(chance.choice([0, 0, 1, 5])):
                table.step()
            if chance.random() < 0.15:
                chance.choice(going)[1].cancelled = True
        table.finish()
        for one, sequence, answer in going:
            where = f"seed {seed}, {rows} rows, prefill {prefill}, {kv_tokens} positions: {one}"
            assert answer.error is None, where
            assert answer.ids == one.right[: len(answer.ids)], where
            assert sequence.cancelled or answer.ids == one.right, where
            assert sequence.row is None


async def test_seeds_reproduce_among_any_neighbours(qwen: Any) -> None:
    chance = random.Random(3)
    prompt = some_words(chance, 20)
    wish = Sampling(temperature=1.3, seed=11)
    quiet = alone(qwen, prompt, 25, wish)
    table = Table(qwen)
    for length in (5, 60, 110):
        table.ask(some_words(chance, length), 30, Sampling(temperature=1.0))
    table.step()
    _, answer = table.ask(prompt, 25, wish)
    _, other = table.ask(prompt, 25, Sampling(temperature=1.3, seed=12))
    table.finish()
    assert answer.ids == quiet != other.ids


def test_a_step_reads_no_more_than_its_budget_and_still_feeds_those_who_decode(qwen: Any) -> None:
    table = Table(qwen, prefill=32)
    chance = random.Random(0)
    _, early = table.ask(some_words(chance, 10), 40)
    table.step()
    table.ask(some_words(chance, 100), 5)
    for _ in range(3):
        before, told = table.batch.tally.read, len(early.ids)
        table.step()
        assert table.batch.tally.read - before <= 32
        assert len(early.ids) == told + 1
    table.finish()


def test_who_leaves_is_gone_before_the_next_step_wherever_it_was(qwen: Any) -> None:
    chance = random.Random(0)
    table = Table(qwen, rows=2, prefill=32)
    decoding, _ = table.ask(some_words(chance, 5), 400)
    table.step()
    reading, _ = table.ask(some_words(chance, 300), 5)
    waiting, _ = table.ask(some_words(chance, 5), 5)
    table.step()
    assert (decoding.row, reading.row, waiting.row) == (0, 1, None)
    for sequence in (decoding, reading, waiting):
        sequence.cancelled = True
    read = table.batch.tally.read
    table.step()
    assert table.batch.idle
    assert table.batch.tally.read == read
    assert (decoding.row, reading.row) == (None, None)


def test_the_next_turn_reads_only_what_is_new(qwen: Any) -> None:
    chance = random.Random(1)
    first = some_words(chance, 120)
    table = Table(qwen)
    _, answer = table.ask(first, 10)
    table.finish()
    second = first + answer.ids + some_words(chance, 15)
    before = table.batch.tally.read
    _, next_answer = table.ask(second, 10)
    table.finish()
    # The answer's last token was told, but never read.
    assert table.batch.tally.read - before == 16
    assert table.batch.tally.reused == len(second) - 16
    assert next_answer.ids == generated(qwen, second, 10)


def test_several_choices_read_their_common_prompt_once(qwen: Any) -> None:
    prompt = some_words(random.Random(2), 100)
    table = Table(qwen)
    answers = [table.ask(prompt, 12)[1] for _ in range(4)]
    table.finish()
    assert table.batch.tally.read == 100 + 3
    assert [answer.ids for answer in answers] == [generated(qwen, prompt, 12)] * 4


def test_conversations_are_remembered_in_rows_that_nobody_needs(qwen: Any) -> None:
    chance = random.Random(4)
    table = Table(qwen, rows=16)
    talks = [some_words(chance, 60) for _ in range(10)]
    for talk in talks:
        table.ask(talk, 2)
        table.finish()
    before = table.batch.tally.read
    for talk in talks:
        table.ask(talk, 2)
        table.finish()
    assert table.batch.tally.read - before == len(talks)


def test_answers_that_outgrow_the_cache_wait_and_lose_nothing(qwen: Any) -> None:
    chance = random.Random(5)
    table = Table(qwen, rows=4, kv_tokens=4 * GRAIN)
    asked = [some_words(chance, 50) for _ in range(4)]
    going = [table.ask(prompt, 200) for prompt in asked]
    table.finish()
    assert any(sequence.preempted for sequence, _ in going)
    for prompt, (_, answer) in zip(asked, going, strict=True):
        assert answer.ids == generated(qwen, prompt, 200)


def test_a_prompt_keeps_its_place_while_the_cache_grows_around_it(qwen: Any) -> None:
    chance = random.Random(11)
    table = Table(qwen, prefill=300)
    talks = [some_words(chance, 60) for _ in range(3)]
    for talk in talks:
        table.ask(talk, 2)
        table.finish()
    _, growing = table.ask(long := some_words(chance, 245), 40)
    table.step()
    table = _with_prefill(table, 8)
    remembered = next(row.keys for row in table.batch._rows[2:] if row.keys)
    reading, answer = table.ask(turn := remembered + some_words(chance, 120), 10)
    table.step()
    assert reading.row != 1, "it is where it was remembered"
    before = table.forward.cache.shape
    while reading.row != 1:
        table.step()
    assert table.forward.cache.shape != before
    table.finish()
    assert answer.ids == generated(qwen, turn, 10)
    assert growing.ids == generated(qwen, long, 40)


def _with_prefill(table: Table, tokens: int) -> Table:
    table.batch._limits = replace(table.batch._limits, prefill_tokens=tokens)
    return table
