"""Transcription by a Whisper model of transformers.

A recording is heard window by window (30 s in the published models), each encoded once: the language, the
chance that nobody speaks, and the text all come from the same encoder output.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import StoppingCriteria, WhisperForConditionalGeneration, WhisperProcessor
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE
from transformers.utils.logging import disable_progress_bar

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerLoad
from msp_common.errors import InvalidRequest
from msp_model_service.audio.windows import Timestamps, stretches
from msp_model_service.engines import torch_device
from msp_model_service.engines.engine_thread import EngineThread, Job
from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions, OnPhase
from msp_model_service.engines.transcriber import (
    SAMPLE_RATE,
    Audio,
    Language,
    Segment,
    TranscriptionRequest,
)

NO_SPEECH_PROB = 0.6
NO_SPEECH_LOGPROB = -1.0
"""A window whose first says that nobody speaks, and whose text the model itself does not believe, is silent.
The authors' thresholds."""

MIN_WINDOW_S = 0.1
"""What is left at a recording's end is not heard if it is shorter: no word is, and models invent one."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Window:
    """What the model made of one window."""

    tokens: list[int]
    avg_logprob: float
    no_speech_prob: float


class WhisperTranscriber:
    """One loaded model and one thread for it. Recordings are written down in the order of their arrival."""

    name = "whisper"

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._thread = EngineThread("transcriber", options.max_queued, broken_by=(torch.AcceleratorError,))
        self._model: Any = None
        self._processor: Any = None
        self._window_samples = 0
        self._timestamps: Timestamps | None = None
        self._language_tokens: dict[str, int] = {}
        self._no_speech_token: int | None = None

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        """Load and hear one window of silence."""
        on_phase("weights", None)
        disable_progress_bar()
        device, dtype = torch_device.prepare(self._options)
        try:
            self._processor = WhisperProcessor.from_pretrained(folder, local_files_only=True)
            self._model = (
                WhisperForConditionalGeneration.from_pretrained(folder, local_files_only=True, dtype=dtype)
                .to(device)
                .eval()
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            raise EngineLoadFailed(f"{folder.name} cannot be loaded as a Whisper model: {error}") from error
        self._read_properties(folder)
        on_phase("warm-up", None)
        silence = TranscriptionRequest(np.zeros(self._window_samples, dtype=np.float32))
        self._hear(silence, Job(lambda job: None, lambda: None), lambda item: None)
        self._thread.start()

    def unload(self) -> None:
        """End all work and drop the weights."""
        self._thread.stop()
        self._model = self._processor = None

    def capabilities(self) -> Capabilities:
        """Transcription only."""
        return Capabilities(
            paths=list(ModelType.TRANSCRIPTION.paths), input_modalities=["audio"], engine=self.name
        )

    def load_now(self) -> WorkerLoad:
        """How busy the thread is."""
        return self._thread.load_now()

    def problem(self) -> str | None:
        """What broke, if the thread's work fails again and again."""
        return self._thread.problem()

    def languages(self) -> Mapping[str, tuple[str, ...]]:
        """Those that the checkpoint has a token for; of an English-only model, English."""
        if not self._language_tokens:
            return {"en": ("english",)} if self._is_english_only() else {}
        names: dict[str, list[str]] = {
            code: [LANGUAGES[code]] if code in LANGUAGES else [] for code in self._language_tokens
        }
        for name, code in TO_LANGUAGE_CODE.items():
            if code in names and name not in names[code]:
                names[code].append(name)
        return {code: tuple(known) for code, known in names.items()}

    def check_prompt(self, prompt: str) -> None:
        """Control tokens in a prompt would change what the model does."""
        self._prompt_ids(prompt)

    async def transcribe(self, request: TranscriptionRequest) -> AsyncGenerator[Language | Segment, None]:
        """See Transcriber."""
        items: AsyncGenerator[Language | Segment, None] = self._thread.stream(partial(self._hear, request))
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()

    def _hear(
        self,
        request: TranscriptionRequest,
        job: Job[None],
        emit: Callable[[Language | Segment], None],
    ) -> None:
        audio, language, told = request.audio, request.language, False
        # Only timestamps say where the next window may begin without cutting a word.
        fine = request.timestamps or audio.size > self._window_samples
        timestamps = self._timestamps if fine else None
        prompt = self._prompt_ids(request.prompt) if request.prompt else None
        position = 0
        while audio.size - position >= MIN_WINDOW_S * SAMPLE_RATE:
            job.step()
            samples = audio[position : position + self._window_samples]
            encoded = self._encode(samples)
            language, no_speech_prob = self._first_glance(encoded, language)
            if not told:
                emit(Language(language if self._language_tokens else next(iter(self.languages()), None)))
                told = True
            window = self._write(
                encoded,
                language,
                prompt,
                request.temperature,
                timestamps is not None,
                no_speech_prob,
                job,
            )
            job.step()
            held_s = samples.size / SAMPLE_RATE
            found, advance_s = stretches(window.tokens, timestamps, held_s)
            if not _is_silent(window):
                for stretch in found:
                    self._emit_segment(stretch, window, position, audio, request.temperature, emit)
            else:
                advance_s = held_s
            position += max(1, round(advance_s * SAMPLE_RATE))
        if not told:
            emit(Language(language))

    def _emit_segment(
        self,
        stretch: Any,
        window: _Window,
        position: int,
        audio: Audio,
        temperature: float,
        emit: Callable[[Language | Segment], None],
    ) -> None:
        text = self._processor.tokenizer.decode(stretch.tokens, skip_special_tokens=True)
        if not text.strip():
            return
        offset, duration = position / SAMPLE_RATE, audio.size / SAMPLE_RATE
        emit(
            Segment(
                start=min(offset + stretch.start, duration),
                end=min(offset + stretch.end, duration),
                text=text,
                tokens=stretch.tokens,
                seek=round(offset * 100),
                temperature=temperature,
                avg_logprob=window.avg_logprob,
                no_speech_prob=window.no_speech_prob,
            )
        )

    @torch.inference_mode()
    def _encode(self, samples: Audio) -> Any:
        features = self._processor.feature_extractor(
            samples, sampling_rate=SAMPLE_RATE, return_tensors="pt"
        ).input_features
        return self._model.get_encoder()(features.to(self._model.device, self._model.dtype))

    @torch.inference_mode()
    def _first_glance(self, encoded: Any, language: str | None) -> tuple[str | None, float]:
        """The language, unless it is known, and how likely it is that nobody speaks."""
        start = torch.tensor([[self._model.generation_config.decoder_start_token_id]])
        output = self._model(
            encoder_outputs=encoded, decoder_input_ids=start.to(self._model.device), use_cache=False
        )
        logits = output.logits[0, -1].float()
        if language is None and self._language_tokens:
            language = max(self._language_tokens, key=lambda code: float(logits[self._language_tokens[code]]))
        if self._no_speech_token is None:
            return language, 0.0
        return language, float(logits.softmax(-1)[self._no_speech_token])

    @torch.inference_mode()
    def _write(
        self,
        encoded: Any,
        language: str | None,
        prompt: torch.Tensor | None,
        temperature: float,
        with_timestamps: bool,
        no_speech_prob: float,
        job: Job[None],
    ) -> _Window:
        spoken = {"language": language, "task": "transcribe"} if self._language_tokens else {}
        output = self._model.generate(
            encoder_outputs=encoded,
            **spoken,
            prompt_ids=prompt,
            temperature=temperature,
            return_timestamps=with_timestamps,
            # The library adds what stands before the text, and keeps the sum within the model's positions.
            max_length=self._model.config.max_target_positions // 2,
            # Where the next window begins is decided here, between whose windows a request can be given up.
            force_unique_generate_call=True,
            return_dict_in_generate=True,
            output_scores=True,
            stopping_criteria=[_StopWhenAbandoned(job)],
        )
        steps = len(output.scores)
        tokens = output.sequences[0, output.sequences.shape[1] - steps :]
        scores = torch.stack([score[0] for score in output.scores]).float()
        logprobs = scores.log_softmax(-1).gather(1, tokens[:, None].to(scores.device))
        end = self._model.generation_config.eos_token_id
        text = [token for token in tokens.tolist() if token != end]
        return _Window(text, float(logprobs.mean()), no_speech_prob)

    def _prompt_ids(self, prompt: str) -> torch.Tensor:
        """The last tokens of the prompt that fit, which is all that the model was trained to read."""
        try:
            ids = self._processor.get_prompt_ids(prompt, return_tensors="pt")
        except ValueError as error:
            raise InvalidRequest(f"Invalid value for 'prompt': {error}", param="prompt") from error
        most = self._model.config.max_target_positions // 2 - 1
        start, text = ids[:1], ids[1:]
        return torch.cat([start, text[-most:]]).to(self._model.device)

    def _is_english_only(self) -> bool:
        return getattr(self._model.generation_config, "is_multilingual", None) is False

    def _read_properties(self, folder: Path) -> None:
        extractor, network = self._processor.feature_extractor, self._model.config
        generation = self._model.generation_config
        frames = network.max_source_positions * 2
        if extractor.sampling_rate != SAMPLE_RATE or extractor.nb_max_frames != frames:
            raise EngineLoadFailed(
                f"{folder.name}: its feature extractor makes {extractor.nb_max_frames} frames at "
                f"{extractor.sampling_rate} Hz, its network takes {frames} at {SAMPLE_RATE}"
            )
        self._window_samples = extractor.n_samples
        no_timestamps = getattr(generation, "no_timestamps_token_id", None)
        if no_timestamps is not None:
            step_s = extractor.n_samples / SAMPLE_RATE / network.max_source_positions
            self._timestamps = Timestamps(first=no_timestamps + 1, step_s=step_s)
        if not self._is_english_only():
            tokens: Mapping[str, int] = getattr(generation, "lang_to_id", None) or {}
            self._language_tokens = {token.strip("<|>"): number for token, number in tokens.items()}
        self._no_speech_token = self._find_no_speech_token()

    def _find_no_speech_token(self) -> int | None:
        """Named `nospeech` in newer vocabularies and `nocaptions` in the first."""
        tokenizer = self._processor.tokenizer
        for token in ("<|nospeech|>", "<|nocaptions|>"):
            number = tokenizer.convert_tokens_to_ids(token)
            if number is not None and number != tokenizer.unk_token_id:
                return int(number)
        return None


class _StopWhenAbandoned(StoppingCriteria):  # type: ignore[misc]
    """Ends generation after the token during which the client left."""

    def __init__(self, job: Job[None]) -> None:
        self._job = job

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
        self._job.progressed()
        return torch.full((input_ids.shape[0],), self._job.cancelled, device=input_ids.device)


def _is_silent(window: _Window) -> bool:
    return window.no_speech_prob > NO_SPEECH_PROB and window.avg_logprob < NO_SPEECH_LOGPROB
