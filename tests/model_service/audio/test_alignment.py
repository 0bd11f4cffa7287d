"""When words were said: the path through the attention, and the words' part of it."""

import numpy as np
import pytest
import torch
from transformers.models.whisper import generation_whisper

from msp_model_service.engines.whisper.alignment import cheapest_path, token_times


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 40), (40, 5), (23, 23)])
def test_the_path_is_that_of_transformers(shape: tuple[int, int]) -> None:
    for seed in range(5):
        costs = np.random.default_rng(seed).standard_normal(shape)
        rows, columns = cheapest_path(costs)
        expected_rows, expected_columns = generation_whisper._dynamic_time_warping(costs)
        assert rows.tolist() == expected_rows.tolist()
        assert columns.tolist() == expected_columns.tolist()


def test_a_token_begins_where_the_attention_goes_when_the_one_before_it_is_read() -> None:
    # Two tokens of opening, three of text, the end; the last of the opening hears the first of the text.
    attention = torch.full((2, 6, 50), 0.001)
    for token, (begin, end) in enumerate([(0, 50), (0, 10), (10, 20), (20, 30), (30, 50), (0, 50)]):
        attention[:, token, begin:end] = 0.1
    times = token_times(attention, opening=2, step_s=0.02)
    assert times == pytest.approx([0.0, 0.2, 0.4, 0.6], abs=0.05)


def test_attention_that_is_the_same_everywhere_still_gives_times_in_order() -> None:
    times = token_times(torch.full((1, 5, 20), 0.05), opening=2, step_s=0.02)
    assert len(times) == 3
    assert times == sorted(times)
    assert np.isfinite(times).all()
