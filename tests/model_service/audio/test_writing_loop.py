"""What happens to recordings that are written down together when one of them, or the engine, fails."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import torch

from msp_common.errors import InternalError
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.transcriber import SAMPLE_RATE, Audio, Language, Segment, TranscriptionRequest
from msp_model_service.engines.whisper import checkpoint
from msp_model_service.engines.whisper.checkpoint import Checkpoint
from msp_model_service.engines.whisper.loop import Emit, End, WritingLoop
from msp_model_service.engines.whisper.network import Network
from msp_model_service.engines.whisper.recording import Recording
from msp_model_service.engines.whisper.writing import Writing
from support import tiny_whisper_model as tiny

LOUD_MEL = 2.0
"""The largest value of a spectrogram: above that of noise, below that of a click in silence."""


class DeviceLost(Exception):
    """As a driver's error after which nothing works."""


class Poisoned(Network):
    """Breaks as it is told: windows of loud sound make no numbers; passes fail while `failing` is set."""

    failing: Exception | None = None

    def encode(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        encoded = super().encode(features)
        return [
            one * torch.nan if float(mel.max()) > LOUD_MEL else one
            for one, mel in zip(encoded, features, strict=True)
        ]

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        if self.failing is not None:
            raise self.failing
        return super().step(tokens, positions)


class Bench:
    """A loop over a tiny model."""

    def __init__(self, loaded: Checkpoint) -> None:
        self.checkpoint = loaded
        self.network = Poisoned(loaded.model)
        self.writing = Writing(loaded, self.network, (0.0,))
        self.loop = WritingLoop(self.writing, 1, 64, broken_by=(DeviceLost,))
        self.loop.start()

    def stream(self, audio: Audio, prompt: str = "") -> AsyncGenerator[Language | Segment, None]:
        ids = self.checkpoint.prompt_ids(prompt)
        request = TranscriptionRequest(audio, language="en")

        def make(emit: Emit, end: End) -> Recording:
            return Recording(request, self.checkpoint, ids, emit, end, seed=0)

        return self.loop.stream(make)

    async def text(self, audio: Audio, prompt: str = "") -> str:
        items = [item async for item in self.stream(audio, prompt)]
        return "".join(item.text for item in items if isinstance(item, Segment))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return checkpoint.load(tiny.make(Path(tmp_path_factory.mktemp("whisper"))), EngineOptions(device="cpu"))


@pytest.fixture
def bench(loaded: Checkpoint) -> Iterator[Bench]:
    bench = Bench(loaded)
    yield bench
    bench.loop.stop()


def noise(seconds: float = 1.0, seed: int = 0) -> Audio:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    return (0.1 * samples).astype(np.float32)


def poison() -> Audio:
    """One loud click in silence: the only sound here whose spectrogram reaches so high above its mean."""
    samples = np.zeros(SAMPLE_RATE, dtype=np.float32)
    samples[8000:8400] = np.sin(np.arange(400)) * 50
    return samples


async def test_a_window_that_makes_no_numbers_fails_alone(bench: Bench) -> None:
    alone = [await bench.text(noise(seed=seed)) for seed in range(3)]
    *texts, failure = await asyncio.gather(
        *(bench.text(noise(seed=seed)) for seed in range(3)), bench.text(poison()), return_exceptions=True
    )
    assert isinstance(failure, InternalError)
    assert texts == alone
    assert bench.loop.problem() is None


async def test_a_failing_pass_ends_those_in_it_and_the_next_ones_are_served(bench: Bench) -> None:
    bench.network.failing = ValueError("out of luck")
    results = await asyncio.gather(bench.text(noise()), bench.text(noise(2.5)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError]
    bench.network.failing = None
    assert await bench.text(noise())
    assert bench.writing.rows == []
    assert bench.loop.problem() is None


async def test_an_engine_that_fails_again_and_again_says_so(bench: Bench) -> None:
    bench.network.failing = ValueError("out of luck")
    for _ in range(3):
        with pytest.raises(ValueError, match="luck"):
            await bench.text(noise())
    assert "out of luck" in (bench.loop.problem() or "")


async def test_a_lost_device_is_a_problem_at_once(bench: Bench) -> None:
    bench.network.failing = DeviceLost("bus error")
    with pytest.raises(DeviceLost):
        await bench.text(noise())
    assert "bus error" in (bench.loop.problem() or "")


async def test_hundreds_of_abandoned_recordings_leave_nothing_behind(bench: Bench) -> None:
    async def give_up(seconds: float) -> None:
        async with aclosing(bench.stream(noise(seconds))) as items:
            await anext(items)

    for _ in range(10):
        await asyncio.gather(*(give_up(0.5 + number % 7) for number in range(20)))
    assert await bench.text(noise())
    load = bench.loop.load_now()
    assert (load.in_flight, load.queued) == (0, 0)
    assert bench.writing.rows == []


async def test_rows_that_end_make_room_without_disturbing_the_others(bench: Bench) -> None:
    # Random weights write until there is no room: after a long prompt there is less of it.
    asked = [(noise(0.3 + 0.7 * (number % 5), seed=number), "x" * (number * 7 % 19)) for number in range(24)]
    alone = [await bench.text(audio, prompt) for audio, prompt in asked]
    assert len({len(text) for text in alone}) > 5
    assert await asyncio.gather(*(bench.text(audio, prompt) for audio, prompt in asked)) == alone
