"""Failures in a batch stay with their owner, and nothing of theirs reaches the next one."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from msp_common.errors import ApiError, InternalError, InvalidRequest, Unavailable
from msp_model_service.engines.chat import Sampling
from msp_model_service.engines.slot.kv_cache import SlotCache
from msp_model_service.engines.slot.scheduler import FIRST, Geometry
from support.architectures import SERVED
from support.slot_models import Answer, Table, build, generated, some_words


@pytest.fixture(scope="module")
def qwen() -> Any:
    return build("Qwen2", SERVED["Qwen2"])


class Faulty:
    """Takes the model's place in a table, and fails when told."""

    def __init__(self, model: Any, fails: Callable[[dict[str, Any]], Exception | None]) -> None:
        self._model = model
        self._fails = fails

    def __call__(self, **inputs: Any) -> Any:
        if error := self._fails(inputs):
            raise error
        return self._model(**inputs)


def break_model(table: Table, fails: Callable[[dict[str, Any]], Exception | None]) -> None:
    table.forward._model = Faulty(table.loaded.model, fails)


POISON = 509


def poisoned(inputs: dict[str, Any]) -> Exception | None:
    return RuntimeError("poison") if bool((inputs["input_ids"] == POISON).any()) else None


def test_a_prompt_that_fails_fails_alone(qwen: Any) -> None:
    chance = random.Random(6)
    table = Table(qwen)
    break_model(table, poisoned)
    good = [one.copy() for one in (some_words(chance, 30), some_words(chance, 70))]
    for prompt in good:
        prompt[:] = [token_id if token_id != POISON else 5 for token_id in prompt]
    answers = [table.ask(good[0], 30)[1]]
    table.step()
    bad = [table.ask([5, POISON, 6], 10)[1] for _ in range(5)]
    answers.append(table.ask(good[1], 30)[1])
    table.finish()
    assert all(isinstance(answer.error, InternalError) for answer in bad)
    for prompt, answer in zip(good, answers, strict=True):
        assert answer.ids == generated(qwen, prompt, 30)


def test_a_row_that_fails_while_decoding_fails_alone(qwen: Any) -> None:
    chance = random.Random(7)
    table = Table(qwen)
    asked = [some_words(chance, 20) for _ in range(3)]
    answers = [table.ask(prompt, 12)[1] for prompt in asked]
    _, victim = table.ask(some_words(chance, 20), 12, Sampling(temperature=0, logit_bias={POISON: 1000.0}))
    break_model(table, lambda inputs: poisoned(inputs) if inputs["input_ids"].shape[1] == 1 else None)
    table.finish()
    assert isinstance(victim.error, InternalError)
    assert victim.ids == [POISON]
    for prompt, answer in zip(asked, answers, strict=True):
        assert POISON not in answer.ids
        assert answer.ids == generated(qwen, prompt, 12)


class Nonsense:
    """A grammar that raises, or rules everything out."""

    def __init__(self, *, at: str) -> None:
        self._at = at

    def mask(self, logits: torch.Tensor) -> None:
        if self._at == "mask":
            raise ValueError("no such rule")
        if self._at == "nothing left":
            logits.fill_(float("-inf"))

    def accept(self, token_id: int) -> None:
        if self._at == "accept":
            raise ValueError("no such token")

    @property
    def finished(self) -> bool:
        return False


@pytest.mark.parametrize("at", ["mask", "nothing left", "accept"])
def test_a_grammar_that_fails_fails_its_own_row(qwen: Any, at: str) -> None:
    chance = random.Random(8)
    prompt = some_words(chance, 20)
    table = Table(qwen)
    _, good = table.ask(prompt, 12)
    _, bad = table.ask(some_words(chance, 20), 12, grammar=Nonsense(at=at))
    table.finish()
    assert isinstance(bad.error, InternalError)
    assert good.ids == generated(qwen, prompt, 12)


def test_no_number_of_one_owner_reaches_the_next_owner_of_the_row(qwen: Any) -> None:
    """What is masked is still multiplied: next to a longer row, stale NaNs would spoil a shorter one."""
    chance = random.Random(9)
    table = Table(qwen, rows=2, prefill=150)
    _, beside = table.ask(long := some_words(chance, 140), 30)
    table.step()
    spoilt = some_words(chance, 200)
    _, failed = table.ask(spoilt, 5)
    table.step()
    with torch.inference_mode():
        for held in table.forward.cache._tensors():
            held[1] = float("nan")
    table.step()
    assert isinstance(failed.error, InternalError)
    _, answer = table.ask(short := some_words(chance, 135), 12)
    table.step()
    table.finish()
    assert answer.ids == generated(qwen, short, 12)
    assert beside.ids == generated(qwen, long, 30)
    _, again = table.ask(spoilt, 5)
    table.finish()
    assert again.ids == generated(qwen, spoilt, 5)


class StingyCache(SlotCache):
    """As on a GPU whose memory somebody else takes."""

    def __init__(self, layers: int, *, positions: int) -> None:
        super().__init__(layers, FIRST)
        self._positions = positions

    def rebuild(self, shape: Geometry, sources: Sequence[tuple[int, int]]) -> None:
        if shape.rows * shape.capacity > self._positions:
            raise torch.OutOfMemoryError("as told")
        super().rebuild(shape, sources)


def test_a_cache_that_cannot_grow_serves_everyone_one_after_another(qwen: Any) -> None:
    chance = random.Random(10)
    table = Table(qwen)
    asked = [some_words(chance, 150) for _ in range(6)]
    going = [table.ask(prompt, 150) for prompt in asked]
    table.forward.cache = StingyCache(3, positions=1024)
    table.finish()
    for prompt, (_, answer) in zip(asked, going, strict=True):
        assert answer.ids == generated(qwen, prompt, 150)


def test_who_cannot_fit_at_all_is_told(qwen: Any) -> None:
    table = Table(qwen)
    _, answer = table.ask(some_words(random.Random(0), 300), 10)
    table.forward.cache = StingyCache(3, positions=0)
    table.finish()
    assert isinstance(answer.error, InternalError)
    assert "memory" in answer.error.message


class Lost(RuntimeError):
    pass


def test_a_lost_device_ends_the_step_and_then_everyone(qwen: Any) -> None:
    table = Table(qwen, broken_by=(Lost,))
    answers = [table.ask([5, 6, 7], 10)[1] for _ in range(3)]
    table.step()
    break_model(table, lambda inputs: Lost("gone"))
    with pytest.raises(Lost):
        table.step()
    table.batch.end_all(Unavailable("broken"))
    assert all(isinstance(answer.error, Unavailable) for answer in answers)
    assert table.batch.idle


@pytest.mark.parametrize("prompt", [[], [512], [5, -1]])
def test_prompts_that_no_forward_pass_can_take_are_refused(qwen: Any, prompt: list[int]) -> None:
    with pytest.raises(InvalidRequest):
        Table(qwen).ask(prompt, 5)


def test_memory_is_given_back_with_the_batch(qwen: Any) -> None:
    table = Table(qwen)
    for _ in range(40):
        table.ask(some_words(random.Random(1), 50), 5)
    table.finish()
    assert table.forward.cache.bytes_per_position() > 0
    table.batch.end_all(ApiError("over"))
    assert table.forward.cache._tensors() == []
    assert isinstance(Answer().error, type(None))


def test_who_is_being_admitted_when_a_step_breaks_is_told_too(qwen: Any) -> None:
    table = Table(qwen, rows=2)
    table.ask(prompt := some_words(random.Random(0), 40), 30)
    table.step()
    _, answer = table.ask([*prompt, 5, 6], 5)
    table.forward.cache = _NoCopies(3, FIRST)
    with pytest.raises(RuntimeError, match="as told"):
        table.step()
    table.batch.end_all(Unavailable("broken"))
    assert isinstance(answer.error, Unavailable)


class _NoCopies(SlotCache):
    def copy(self, source: int, target: int, length: int) -> None:
        raise RuntimeError("as told")
