"""Tokens from a batch of rows are, in float32, those that transformers' `generate` makes of each alone."""

import random

import pytest

from msp_model_service.engines.slot import fitness
from support.architectures import LEFT, SERVED
from support.slot_models import Table, build, generated, some_words

LENGTHS = (5, 17, 40, 90, 130)


@pytest.mark.parametrize("name", SERVED)
def test_a_batch_says_what_generate_says(name: str) -> None:
    model = build(name, SERVED[name])
    chance = random.Random(name)
    asked = [(some_words(chance, length), chance.choice([6, 10])) for length in LENGTHS]
    assert fitness.obstacle(model.config) is None
    assert fitness.model_obstacle(model) is None
    table = Table(model, rows=4, prefill=48)
    answers = [table.ask(prompt, tokens)[1] for prompt, tokens in asked]
    table.finish()
    right = [generated(model, prompt, tokens) for prompt, tokens in asked]
    assert [answer.error for answer in answers] == [None] * len(answers)
    assert [answer.ids for answer in answers] == right
    assert len({token_id for answer in right for token_id in answer}) > len(right), (
        "the model says too little"
    )


@pytest.mark.parametrize("name", LEFT)
def test_what_rows_cannot_hold_is_refused_by_its_configuration(name: str) -> None:
    left = LEFT[name]
    assert fitness.obstacle(build(name, left.options).config) == left.why
