"""A Whisper repository, loaded, and what its files say about how to ask it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE
from transformers.utils.logging import disable_progress_bar

from msp_common.errors import InvalidRequest
from msp_model_service.audio.windows import Timestamps
from msp_model_service.engines import torch_device
from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions
from msp_model_service.engines.transcriber import SAMPLE_RATE, Audio


@dataclass(frozen=True)
class Checkpoint:
    """One loaded model. Token ids are null or empty where the vocabulary has no such token."""

    model: Any
    processor: Any
    window_samples: int
    timestamps: Timestamps | None
    language_tokens: Mapping[str, int]
    task_tokens: Mapping[str, int]
    """`transcribe` and `translate`."""
    no_timestamps_token: int | None
    no_speech_token: int | None
    start_token: int
    end_token: int
    english_only: bool

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        device: torch.device = self.model.device
        return device

    @property
    def positions(self) -> int:
        """Tokens that the decoder has places for; half of them are for a prompt."""
        positions: int = self.model.config.max_target_positions
        return positions

    @property
    def translates(self) -> bool:
        """Whether it can write down in English what was said in another language."""
        return bool(self.language_tokens) and "translate" in self.task_tokens

    def languages(self) -> Mapping[str, tuple[str, ...]]:
        """See Transcriber."""
        if not self.language_tokens:
            return {"en": ("english",)} if self.english_only else {}
        names: dict[str, list[str]] = {
            code: [LANGUAGES[code]] if code in LANGUAGES else [] for code in self.language_tokens
        }
        for name, code in TO_LANGUAGE_CODE.items():
            if code in names and name not in names[code]:
                names[code].append(name)
        return {code: tuple(known) for code, known in names.items()}

    def prompt_ids(self, prompt: str | None) -> list[int]:
        """The last tokens of the prompt that fit, which is all that the model was trained to read.

        Raises InvalidRequest when control tokens are in it: they would change what the model does.
        """
        if not prompt:
            return []
        try:
            ids: list[int] = self.processor.get_prompt_ids(prompt, return_tensors="np").tolist()
        except ValueError as error:
            raise InvalidRequest(f"Invalid value for 'prompt': {error}", param="prompt") from error
        return [ids[0], *ids[1:][-(self.positions // 2 - 1) :]]

    def opening(self, language: str | None, *, translate: bool, timestamps: bool) -> list[int]:
        """The tokens that tell the decoder what is wanted, `start_token` first."""
        ids = [self.start_token]
        if language is not None and self.language_tokens:
            ids += [
                self.language_tokens[language],
                self.task_tokens["translate" if translate else "transcribe"],
            ]
        if not timestamps and self.no_timestamps_token is not None:
            ids.append(self.no_timestamps_token)
        return ids

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens say."""
        text: str = self.processor.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def features(self, samples: Audio) -> torch.Tensor:
        """The log-mel spectrogram of one window, padded with silence: (1, bins, frames)."""
        made = self.processor.feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        features: torch.Tensor = made.input_features
        return features


def load(folder: Path, options: EngineOptions) -> Checkpoint:
    """Raises EngineLoadFailed."""
    disable_progress_bar()
    device, dtype = torch_device.prepare(options)
    try:
        processor = WhisperProcessor.from_pretrained(folder, local_files_only=True)
        model = (
            WhisperForConditionalGeneration.from_pretrained(folder, local_files_only=True, dtype=dtype)
            .to(device)
            .eval()
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise EngineLoadFailed(f"{folder.name} cannot be loaded as a Whisper model: {error}") from error
    _check_frames(folder, processor.feature_extractor, model.config)
    return _described(model, processor)


def _check_frames(folder: Path, extractor: Any, network: Any) -> None:
    frames = network.max_source_positions * 2
    if extractor.sampling_rate != SAMPLE_RATE or extractor.nb_max_frames != frames:
        raise EngineLoadFailed(
            f"{folder.name}: its feature extractor makes {extractor.nb_max_frames} frames at "
            f"{extractor.sampling_rate} Hz, its network takes {frames} at {SAMPLE_RATE}"
        )


def _described(model: Any, processor: Any) -> Checkpoint:
    generation, extractor = model.generation_config, processor.feature_extractor
    no_timestamps = getattr(generation, "no_timestamps_token_id", None)
    timestamps = None
    if no_timestamps is not None:
        step_s = extractor.n_samples / SAMPLE_RATE / model.config.max_source_positions
        timestamps = Timestamps(first=no_timestamps + 1, step_s=step_s)
    english_only = getattr(generation, "is_multilingual", None) is False
    languages = {} if english_only else getattr(generation, "lang_to_id", None) or {}
    tasks = getattr(generation, "task_to_id", None) or {
        task: token
        for task in ("transcribe", "translate")
        if (token := _token(processor.tokenizer, f"<|{task}|>")) is not None
    }
    end = generation.eos_token_id
    return Checkpoint(
        model=model,
        processor=processor,
        window_samples=extractor.n_samples,
        timestamps=timestamps,
        language_tokens={token.strip("<|>"): number for token, number in languages.items()},
        task_tokens=tasks,
        no_timestamps_token=no_timestamps,
        # Named `nospeech` in newer vocabularies and `nocaptions` in the first.
        no_speech_token=_token(processor.tokenizer, "<|nospeech|>", "<|nocaptions|>"),
        start_token=generation.decoder_start_token_id,
        end_token=end[0] if isinstance(end, list) else end,
        english_only=english_only,
    )


def _token(tokenizer: Any, *names: str) -> int | None:
    for name in names:
        number = tokenizer.convert_tokens_to_ids(name)
        if number is not None and number != tokenizer.unk_token_id:
            return int(number)
    return None
