"""samples/whisper still does what its README says, loaded as any Whisper checkpoint is."""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoProcessor, WhisperForConditionalGeneration, WhisperProcessor

from examples import CLIPS as VOICE_OF_CLIP
from speech import HELD_OUT, TRAINED

FOLDER = Path(__file__).resolve().parents[2] / "samples" / "whisper"
CLIPS = [FOLDER.parent / "audio" / f"{name}.wav" for name in VOICE_OF_CLIP]
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 16_000

speaks = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng to speak fresh digits")

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """The loaded model; what it is given is of any length."""

    model: Any
    processor: Any

    def text(self, audio: Audio, **options: Any) -> str:
        features = self.processor(audio, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            written = self.model.generate(features, **{"language": "en", "task": "transcribe", **options})
        text: str = self.processor.batch_decode(written, skip_special_tokens=True)[0]
        return text.strip()

    def segments(self, audio: Audio) -> list[tuple[float, float, str]]:
        """Start, end and text, by Whisper's own way through audio that may be longer than a window."""
        short = len(audio) <= self.processor.feature_extractor.n_samples
        length = {} if short else {"truncation": False, "padding": "longest"}
        heard = self.processor(
            audio, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True, **length
        )
        with torch.inference_mode():
            answer = self.model.generate(
                **heard, language="en", task="transcribe", return_timestamps=True, return_segments=True
            )
        return [
            (
                float(segment["start"]),
                float(segment["end"]),
                self.processor.decode(segment["tokens"], skip_special_tokens=True).strip(),
            )
            for segment in answer["segments"][0]
        ]


@pytest.fixture(scope="module")
def sample() -> Sample:
    torch.set_num_threads(1)
    return Sample(
        WhisperForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32).eval(),
        AutoProcessor.from_pretrained(FOLDER),
    )


def decoded(data: bytes) -> Audio:
    """Mono at 16 kHz, by the library that the transcription worker decodes with."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with av.open(io.BytesIO(data)) as file:
        frames = [part for frame in file.decode(audio=0) for part in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def spoken(words: list[str], voice: str, words_a_minute: int = 165) -> Audio:
    command = ["espeak-ng", "--stdout", "-v", voice, "-s", str(words_a_minute), " ".join(words)]
    return decoded(subprocess.run(command, check=True, capture_output=True).stdout)


def said_in(clip: Path) -> str:
    """A clip is named by what is said in it."""
    return clip.stem.replace("-", " ")


def held_out_speech(count: int, seed: int) -> list[tuple[list[str], Audio]]:
    rng = random.Random(seed)
    accents = ("en-us", "en", "en-gb-x-rp")
    texts = [rng.choices(DIGITS, k=rng.randint(1, 6)) for _ in range(count)]
    return [
        (
            words,
            spoken(words, f"{accents[index % 3]}+{HELD_OUT[index % len(HELD_OUT)]}", rng.randint(145, 190)),
        )
        for index, words in enumerate(texts)
    ]


@pytest.mark.parametrize("clip", CLIPS, ids=said_in)
def test_it_writes_down_the_committed_clips(sample: Sample, clip: Path) -> None:
    assert sample.text(decoded(clip.read_bytes())) == said_in(clip)


def test_the_committed_clips_are_small_and_of_held_out_voices() -> None:
    assert sorted(CLIPS) == sorted((FOLDER.parent / "audio").iterdir())
    assert sum(clip.stat().st_size for clip in CLIPS) <= 150_000
    assert {voice.split("+")[1] for voice in VOICE_OF_CLIP.values()} <= set(HELD_OUT)
    assert not set(HELD_OUT) & set(TRAINED)


@speaks
def test_it_writes_down_digits_of_voices_it_was_never_trained_on(sample: Sample) -> None:
    clips = held_out_speech(48, seed=11)
    wrong = [(words, text) for words, audio in clips if (text := sample.text(audio)).split() != words]
    assert len(wrong) / len(clips) <= 0.15, wrong


def test_timestamps_enclose_the_speech(sample: Sample) -> None:
    clip = decoded(CLIPS[0].read_bytes())
    silence = np.zeros(RATE // 2, np.float32)
    loud = np.flatnonzero(np.abs(clip) > 0.02 * np.abs(clip).max()) / RATE
    audio = np.concatenate([silence, clip])
    # transformers lets a window's only segment begin with the window; the spoken start is in the tokens.
    ((start, end, text),) = sample.segments(audio)
    features = sample.processor(audio, sampling_rate=RATE, return_tensors="pt").input_features
    written = sample.model.generate(features, language="en", task="transcribe", return_timestamps=True)
    ((token_start, token_end),) = [
        offset["timestamp"] for offset in sample.processor.decode(written[0], output_offsets=True)["offsets"]
    ]
    assert text == said_in(CLIPS[0])
    assert 0 <= start <= 0.5 + loud[0]
    assert end == pytest.approx(0.5 + loud[-1], abs=0.25)
    assert token_start == pytest.approx(0.5 + loud[0], abs=0.25)
    assert token_end == pytest.approx(end)


def test_audio_longer_than_the_window_is_written_down_in_segments(sample: Sample) -> None:
    pause = np.zeros(2 * RATE, np.float32)
    recording = np.concatenate([part for clip in 2 * CLIPS for part in (decoded(clip.read_bytes()), pause)])
    assert len(recording) > 2 * 6 * RATE
    segments = sample.segments(recording)
    expected = " ".join(said_in(clip) for clip in 2 * CLIPS).split()
    heard = " ".join(text for _, _, text in segments).split()
    assert len(segments) > 1
    assert all(start < end for start, end, _ in segments)
    assert [start for start, _, _ in segments] == sorted(start for start, _, _ in segments)
    assert segments[-1][1] <= len(recording) / RATE + 0.5
    assert _edits(expected, heard) <= len(expected) // 5, (expected, heard)


@pytest.mark.parametrize("timestamps", [False, True])
def test_silence_and_noise_hold_no_digits(sample: Sample, timestamps: bool) -> None:
    noise = 0.05 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    for audio in (np.zeros(RATE, np.float32), np.zeros(6 * RATE, np.float32), noise):
        assert sample.text(audio, return_timestamps=timestamps) == ""


def test_another_language_or_an_earlier_text_does_not_change_the_digits(sample: Sample) -> None:
    clip = decoded(CLIPS[0].read_bytes())
    prompt = sample.processor.get_prompt_ids("nine eight seven", return_tensors="pt")
    assert sample.text(clip, language="french") == said_in(CLIPS[0])
    assert sample.text(clip, language=None) == said_in(CLIPS[0])
    assert sample.text(clip, prompt_ids=prompt).removeprefix("nine eight seven").strip() == said_in(CLIPS[0])


def test_the_folder_has_the_files_of_a_real_checkpoint() -> None:
    expected = {
        "README.md", "added_tokens.json", "config.json", "generation_config.json", "merges.txt",
        "model.safetensors", "normalizer.json", "preprocessor_config.json", "special_tokens_map.json",
        "tokenizer.json", "tokenizer_config.json", "vocab.json",
    }  # fmt: skip
    assert {path.name for path in FOLDER.iterdir()} == expected
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3_000_000


def test_its_special_tokens_are_those_of_a_multilingual_whisper(sample: Sample) -> None:
    generation = json.loads((FOLDER / "generation_config.json").read_text())
    identity = sample.processor.tokenizer.convert_tokens_to_ids
    assert isinstance(sample.processor, WhisperProcessor)
    assert generation["is_multilingual"]
    assert len(generation["lang_to_id"]) == 99
    assert generation["lang_to_id"]["<|fr|>"] == identity("<|fr|>")
    assert generation["no_timestamps_token_id"] + 1 == identity("<|0.00|>")
    assert identity("<|6.00|>") - identity("<|0.00|>") == 300
    assert generation["alignment_heads"]


def _edits(expected: list[str], heard: list[str]) -> int:
    """Words to insert, delete or replace to make one of the other."""
    row = list(range(len(heard) + 1))
    for count, word in enumerate(expected, 1):
        last, row[0] = row[0], count
        for index, other in enumerate(heard, 1):
            last, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, last + (word != other))
    return row[-1]
