"""What the whisper sample learns from: six-second windows of spoken digits, and what is said in them when."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from speech import SAMPLE_RATE, Manner, Utterance, speaker

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WINDOW_S = 6.0
WINDOW = int(WINDOW_S * SAMPLE_RATE)

# A word counts as heard in a window that lacks no more than this of its end, and as cut by the window's end
# only if at least this much of its beginning is inside: less than that nobody can hear.
_HEARD_MARGIN = int(0.05 * SAMPLE_RATE)

Voices = tuple[tuple[Utterance, ...], ...]


@dataclass(frozen=True)
class Window:
    """Six seconds of audio (float32 in -1..1), the words wholly inside and, in samples, where each begins and
    ends. `cut_at` is where a word begins that the window's end cuts: the next window should start there."""

    audio: NDArray[np.float32]
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    cut_at: int | None


def some_digits(rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(DIGITS[i] for i in rng.integers(0, 10, int(rng.integers(1, 7))))


def some_manner(rng: np.random.Generator) -> Manner:
    return Manner(
        rate=int(rng.integers(110, 230)),
        pitch=int(rng.integers(25, 75)),
        pitch_range=int(rng.integers(20, 80)),
        word_gap=int(rng.integers(0, 12)) if rng.random() < 0.4 else 0,
    )


def _speak(voice: str, utterances: int, seed: int) -> tuple[Utterance, ...]:
    rng = np.random.default_rng([seed, *voice.encode()])
    return tuple(
        speaker().say(some_digits(rng), voice, some_manner(rng), ", " if rng.random() < 0.3 else " ")
        for _ in range(utterances)
    )


def spoken_by(voices: Sequence[str], utterances: int, seed: int, processes: int) -> Voices:
    """`utterances` of 1-6 random digits by each voice; what a voice says depends on its name and the seed."""
    with ProcessPoolExecutor(processes) as pool:
        return tuple(pool.map(partial(_speak, utterances=utterances, seed=seed), voices, chunksize=8))


def window(voices: Voices, rng: np.random.Generator, long_share: float) -> Window:
    """To learn from: one utterance, or (a `long_share`) a piece of a longer recording, or no speech."""
    draw = rng.random()
    if draw < 0.07:
        return Window(_no_speech(rng), (), (), None)
    utterances = voices[rng.integers(len(voices))]
    if draw < 0.07 + 0.93 * long_share:
        recording, words, spans = _joined(utterances, rng, 10 * SAMPLE_RATE)
        first = int(rng.integers(len(words)))
        begin = max(0, spans[first][0] - int(rng.integers(0, SAMPLE_RATE // 8)))
    else:
        recording, words, spans = _joined(utterances, rng, 1)
        begin, first = 0, 0
        lead = int(rng.integers(0, int(1.3 * SAMPLE_RATE)))
        recording = np.concatenate([np.zeros(lead, np.float32), recording])
        spans = [(a + lead, b + lead) for a, b in spans]
    heard = recording[begin : begin + WINDOW]
    inside = [(w, a - begin, b - begin) for w, (a, b) in zip(words[first:], spans[first:], strict=True)]
    whole = [(w, a, min(b, WINDOW)) for w, a, b in inside if b <= WINDOW + _HEARD_MARGIN]
    cut = next((a for _, a, b in inside if b > WINDOW + _HEARD_MARGIN and a < WINDOW - _HEARD_MARGIN), None)
    audio = _as_recorded(heard, rng)
    return Window(audio, tuple(w for w, _, _ in whole), tuple((a, b) for _, a, b in whole), cut)


def _joined(
    utterances: tuple[Utterance, ...], rng: np.random.Generator, at_least: int
) -> tuple[NDArray[np.float32], list[str], list[tuple[int, int]]]:
    """Utterances of one voice with pauses between, until there are `at_least` samples; faster or slower, and
    so higher or lower, than they were spoken."""
    speed = float(rng.uniform(0.85, 1.18)) if rng.random() < 0.7 else 1.0
    pieces: list[NDArray[np.float32]] = []
    words: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    while length < at_least:
        said = utterances[rng.integers(len(utterances))]
        samples = int(len(said.audio) / speed)
        spoken = np.interp(np.arange(samples) * speed, np.arange(len(said.audio)), said.audio)
        pieces.append(spoken.astype(np.float32) / 32768)
        words += said.words
        times = zip(said.starts, said.ends, strict=True)
        spans += [(length + int(a / speed), length + int(b / speed)) for a, b in times]
        pause = np.zeros(int(rng.uniform(0.05, 1.0) * SAMPLE_RATE), np.float32)
        pieces.append(pause)
        length += samples + len(pause)
    return np.concatenate(pieces), words, spans


def _as_recorded(speech: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """With a loudness, perhaps noise, perhaps a duller or thinner tone; silence up to the window's end."""
    if rng.random() < 0.3:  # one-tap filter: positive dulls, negative thins
        tap = np.float32(rng.uniform(-0.6, 0.6))
        speech = (speech + tap * np.concatenate([np.zeros(1, np.float32), speech[:-1]])).astype(np.float32)
    peak = float(np.abs(speech).max()) or 1.0
    audio = np.zeros(WINDOW, np.float32)
    audio[: len(speech)] = speech * (10 ** rng.uniform(-1.3, -0.02) / peak)
    if rng.random() < 0.6:
        noisy = WINDOW if rng.random() < 0.5 else len(speech)
        level = float(np.abs(audio).max()) * 10 ** rng.uniform(-3.5, -1.3)
        audio[:noisy] += level * rng.standard_normal(noisy, dtype=np.float32)
    return audio


def _no_speech(rng: np.random.Generator) -> NDArray[np.float32]:
    """Silence, noise, a hum or a tone, over all of the window or its beginning."""
    audio = np.zeros(WINDOW, np.float32)
    length = WINDOW if rng.random() < 0.5 else int(rng.integers(SAMPLE_RATE // 10, WINDOW))
    level = 10 ** rng.uniform(-4, -0.3)
    kind = rng.integers(4)
    if kind == 1:
        audio[:length] = level * 0.3 * rng.standard_normal(length, dtype=np.float32)
    elif kind == 2:
        audio[:length] = np.cumsum(rng.standard_normal(length, dtype=np.float32))
        audio *= level / (np.abs(audio).max() + 1e-6)
    elif kind == 3:
        pitch = 10 ** rng.uniform(1.7, 3.5)
        audio[:length] = level * np.sin(2 * np.pi * pitch / SAMPLE_RATE * np.arange(length))
    return audio


def frame_labels(said: Window, frames: int) -> NDArray[np.int64]:
    """Which digit sounds in each encoder frame: 0 none, 1 + digit, -100 (do not ask) in a cut word."""
    labels = np.zeros(frames, np.int64)
    samples = WINDOW // frames
    for word, (begin, end) in zip(said.words, said.spans, strict=True):
        labels[begin // samples : -(-end // samples)] = 1 + DIGITS.index(word)
    if said.cut_at is not None:
        labels[said.cut_at // samples :] = -100
    assert all(a <= b for (_, a), (b, _) in pairwise(said.spans)), "words are in order"
    return labels
