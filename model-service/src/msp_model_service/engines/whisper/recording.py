"""One recording on its way through the model: which window is next, and what its text says in which order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from msp_model_service.audio.windows import Stretch, stretches
from msp_model_service.engines.transcriber import (
    SAMPLE_RATE,
    Audio,
    Language,
    Segment,
    TranscriptionRequest,
    Word,
)
from msp_model_service.engines.whisper.checkpoint import Checkpoint
from msp_model_service.engines.whisper.trust import Written

MIN_WINDOW_S = 0.1
"""What is left at a recording's end is not heard if it is shorter: no word is, and models invent one."""


@dataclass(eq=False)
class Recording:
    """What is known of one request. Changed by the engine's thread alone, but for `left`."""

    request: TranscriptionRequest
    checkpoint: Checkpoint
    prompt: Sequence[int]
    emit: Callable[[Language | Segment], None]
    end: Callable[[BaseException | None], None]
    """Told once: null when all is heard."""
    seed: int
    """Of draws that the client did not ask for: the same for the same recording, whoever else is there."""
    position: int = 0
    """Sample at which the next window begins."""
    language: str | None = None
    told: bool = False
    started: bool = False
    left: bool = False
    """Its caller has gone."""
    draws: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        self.language = self.request.language
        if self.request.temperature > 0:
            self.draws.seed()
        else:
            self.draws.manual_seed(self.seed)

    @property
    def with_timestamps(self) -> bool:
        """Only timestamps say where the next window may begin without cutting a word."""
        fine = self.request.timestamps or self.request.audio.size > self.checkpoint.window_samples
        return fine and self.checkpoint.timestamps is not None

    @property
    def over(self) -> bool:
        """Whether no window is left."""
        return self.request.audio.size - self.position < MIN_WINDOW_S * SAMPLE_RATE

    def window(self) -> Audio:
        """The samples to hear next."""
        audio: Audio = self.request.audio[self.position : self.position + self.checkpoint.window_samples]
        return audio

    def tell_language(self) -> None:
        """Before the first segment; also of a recording in which no window was heard."""
        if not self.told:
            known = self.checkpoint.languages()
            only = next(iter(known)) if len(known) == 1 else None
            self.emit(Language(self.language or only))
            self.told = True

    def cut(self, written: Written) -> tuple[list[Stretch], float]:
        """The stretches that the window's tokens tell of, and after how many seconds the next one begins."""
        held_s = self.window().size / SAMPLE_RATE
        timestamps = self.checkpoint.timestamps if self.with_timestamps else None
        found, advance_s = stretches(written.tokens, timestamps, held_s)
        return ([], held_s) if written.silent else (found, advance_s)

    def accept(
        self, written: Written, found: Sequence[Stretch], advance_s: float, words: Sequence[Word]
    ) -> None:
        """Emit the window's segments, each with its part of `words`, and go on to the next window."""
        taken = 0
        for stretch in found:
            upto = taken + len(stretch.tokens)
            own = [word for word in words if taken <= word.first_token < upto]
            self._emit_segment(stretch, written, own)
            taken = upto
        self.position += max(1, round(advance_s * SAMPLE_RATE))

    def _emit_segment(self, stretch: Stretch, written: Written, words: Sequence[Word]) -> None:
        text = self.checkpoint.text(stretch.tokens)
        if not text.strip():
            return
        offset, duration = self.position / SAMPLE_RATE, self.request.audio.size / SAMPLE_RATE
        self.emit(
            Segment(
                start=min(offset + stretch.start, duration),
                end=min(offset + stretch.end, duration),
                text=text,
                tokens=stretch.tokens,
                seek=round(offset * 100),
                temperature=written.temperature,
                avg_logprob=written.avg_logprob,
                no_speech_prob=written.no_speech_prob,
                words=tuple(word.later(offset, duration) for word in words),
            )
        )
