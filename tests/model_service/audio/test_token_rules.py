"""Which tokens may follow, beside the rules of transformers, which are those of the model's authors."""

import random
from types import SimpleNamespace

import pytest
import torch
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

from msp_model_service.audio.windows import Timestamps
from msp_model_service.engines.whisper.rules import TokenRules, take

VOCABULARY, END, NO_TIMESTAMPS, FIRST = 60, 30, 39, 40


def rules(latest_first: int | None = None) -> TokenRules:
    return TokenRules(
        never=torch.tensor([3, 4]),
        not_first=torch.tensor([END]),
        timestamps=Timestamps(FIRST, 0.02),
        no_timestamps_token=NO_TIMESTAMPS,
        end_token=END,
        latest_first_timestamp=latest_first,
    )


@pytest.mark.parametrize("latest_first", [None, 5])
def test_timestamps_follow_the_rules_of_transformers(latest_first: int | None) -> None:
    rng = random.Random(0)
    generator = torch.Generator().manual_seed(0)
    config = SimpleNamespace(
        no_timestamps_token_id=NO_TIMESTAMPS,
        eos_token_id=END,
        bos_token_id=END,
        max_initial_timestamp_index=latest_first,
    )
    theirs = WhisperTimeStampLogitsProcessor(config, begin_index=2)
    for _ in range(300):
        written = [
            rng.choice([rng.randrange(END), rng.randrange(FIRST, VOCABULARY)])
            for _ in range(rng.randrange(6))
        ]
        logits = 3 * torch.randn(VOCABULARY, generator=generator)
        logits[[3, 4]] = -torch.inf
        if not written:
            logits[END] = -torch.inf
        expected = theirs(torch.tensor([[1, 2, *written]]), logits[None].clone())[0]
        rules(latest_first).restrict(logits, written, with_timestamps=True)
        assert torch.equal(logits, expected)


def test_without_timestamps_only_the_repositorys_own_lists_count() -> None:
    logits = torch.zeros(VOCABULARY)
    rules().restrict(logits, [], with_timestamps=False)
    assert (logits == -torch.inf).nonzero()[:, 0].tolist() == [3, 4, END]
    logits = torch.zeros(VOCABULARY)
    rules().restrict(logits, [7], with_timestamps=False)
    assert (logits == -torch.inf).nonzero()[:, 0].tolist() == [3, 4]


def test_a_draw_depends_on_its_own_row_alone() -> None:
    logits = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(1))

    def drawn(rows: list[int]) -> list[int]:
        seeds = [torch.Generator().manual_seed(row) for row in rows]
        return take(logits[rows], [(0.0, 0.9, 0.9)[row] for row in rows], seeds)[0]

    together = drawn([0, 1, 2])
    assert together == [drawn([row])[0] for row in range(3)]
    assert together[0] == int(logits[0].argmax())


def test_a_tokens_likelihood_is_told_before_the_temperature() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    for temperature in (0.0, 0.1, 1.0):
        _, [likelihood] = take(logits, [temperature], [torch.Generator()])
        assert likelihood == pytest.approx(-0.6931, abs=1e-3)
