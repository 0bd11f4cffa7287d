"""A transcriber without a model: it counts the seconds in which there is sound."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path

import numpy as np

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerLoad
from msp_common.errors import InvalidRequest
from msp_model_service.engines.lifecycle import EngineOptions, OnPhase
from msp_model_service.engines.transcriber import (
    SAMPLE_RATE,
    Audio,
    Language,
    Segment,
    TranscriptionRequest,
    Word,
)

_LANGUAGES = {"en": ("english",), "de": ("german",), "es": ("spanish", "castilian")}
_SILENCE = 0.01
_LONGEST_PROMPT = 1000


class FakeTranscriber:
    """Hears `second 1`, `second 2` and so on: one segment for each second that is not silent.

    It remembers what it was asked last, and how many transcripts were closed before their end.
    `before_segment` is awaited before each segment with its number, so that a test decides when it comes.
    """

    name = "fake"
    remembered = 16
    """Requests that a test may look at: each holds its recording, and a soak makes very many."""

    def __init__(
        self, options: EngineOptions, before_segment: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        self._options = options
        self._before_segment = before_segment
        self._running = 0
        self.requests: list[TranscriptionRequest] = []
        self.abandoned = 0

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        """Needs nothing from the folder."""
        on_phase("weights", 1.0)

    def unload(self) -> None:
        """Nothing to free."""

    def capabilities(self) -> Capabilities:
        """As a Whisper model's."""
        return Capabilities(
            paths=list(ModelType.TRANSCRIPTION.paths), input_modalities=["audio"], engine=self.name
        )

    def load_now(self) -> WorkerLoad:
        """Nobody waits: it can do any number at once."""
        return WorkerLoad(in_flight=self._running)

    def problem(self) -> str | None:
        """Nothing can break."""
        return None

    def languages(self) -> Mapping[str, tuple[str, ...]]:
        """Three, one of them with two names."""
        return _LANGUAGES

    def translates(self) -> bool:
        """It says the same in every language."""
        return True

    def check_prompt(self, prompt: str) -> None:
        """Refuses very long ones."""
        if len(prompt) > _LONGEST_PROMPT:
            raise InvalidRequest("The prompt is too long.", param="prompt")

    async def transcribe(self, request: TranscriptionRequest) -> AsyncGenerator[Language | Segment, None]:
        """The language asked for, else English; then the loud seconds."""
        self.requests.append(request)
        del self.requests[: -self.remembered]
        self._running += 1
        finished = False
        try:
            yield Language(request.language or "en")
            for number, start in enumerate(_loud_seconds(request.audio), 1):
                if self._before_segment is not None:
                    await self._before_segment(number)
                end = min(start + 1.0, request.audio.size / SAMPLE_RATE)
                half = (start + end) / 2
                spoken = (Word("second", float(start), half), Word(str(number), half, end))
                yield Segment(
                    start=float(start),
                    end=end,
                    text=f" second {number}",
                    tokens=(number,),
                    words=spoken if request.words else (),
                )
            finished = True
        finally:
            self._running -= 1
            self.abandoned += not finished


def _loud_seconds(audio: Audio) -> list[int]:
    seconds = range(-(-audio.size // SAMPLE_RATE))
    return [s for s in seconds if np.abs(audio[s * SAMPLE_RATE : (s + 1) * SAMPLE_RATE]).max() > _SILENCE]
