"""What a transcription engine can be asked."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from msp_model_service.engines.lifecycle import Engine

SAMPLE_RATE = 16_000
"""Samples per second of all audio that engines get."""

Audio = NDArray[np.float32]
"""Mono samples at SAMPLE_RATE, -1 to 1."""


@dataclass(frozen=True)
class TranscriptionRequest:
    """One recording and how to write it down."""

    audio: Audio
    language: str | None = None
    """A code out of `Transcriber.languages()`; null lets the model decide."""
    prompt: str | None = None
    """Text that might stand before the recording: spellings, names, style."""
    temperature: float = 0.0
    """0 takes the likeliest token, and draws only where the text is not to be believed; above, all are
    drawn."""
    translate: bool = False
    """Whether it is written down in English, whatever language is spoken."""
    timestamps: bool = False
    """Whether segments must be as fine as the model can tell; without, one may be as long as its window."""
    words: bool = False
    """Whether segments tell when each of their words was said."""


@dataclass(frozen=True)
class Language:
    """The language in which the recording is written down: known before the first segment."""

    code: str | None


@dataclass(frozen=True)
class Word:
    """A word with the punctuation at it, without blanks around."""

    text: str
    start: float
    end: float
    """Seconds from the beginning of the recording."""
    first_token: int = 0
    """Its place among the tokens of its window."""

    def later(self, offset_s: float, duration_s: float) -> "Word":
        """The same word in a recording in which its window begins at `offset_s`."""
        start, end = (min(offset_s + time, duration_s) for time in (self.start, self.end))
        return replace(self, start=start, end=max(start, end))


@dataclass(frozen=True)
class Segment:
    """A stretch of speech."""

    start: float
    end: float
    """Seconds from the beginning of the recording."""
    text: str
    """With the blank before it, if the language has one: texts of segments are joined without anything."""
    tokens: tuple[int, ...] = ()
    seek: int = 0
    """Where the window began, in hundredths of a second."""
    temperature: float = 0.0
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    words: tuple[Word, ...] = ()


class Transcriber(Engine, Protocol):
    """Writes down speech."""

    def languages(self) -> Mapping[str, tuple[str, ...]]:
        """Code → English names, the usual one first, of the languages the model knows; empty if it has
        no notion of languages."""

    def translates(self) -> bool:
        """Whether it can write down in English what is said in another language."""

    def check_prompt(self, prompt: str) -> None:
        """Raises InvalidRequest naming `prompt` if the model cannot take it."""

    def transcribe(self, request: TranscriptionRequest) -> AsyncGenerator[Language | Segment, None]:
        """The language, then segments in order of time, each as soon as it is known. Silence has none.

        Raises TooManyRequests at the first item when too many requests wait. Closing it stops the work.
        """
