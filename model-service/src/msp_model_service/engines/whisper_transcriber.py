"""Transcription by a Whisper model of transformers.

A recording is heard window by window (30 s in the published models), each encoded once: the language, the
chance that nobody speaks, the text and its times all come from the same encoder output. Windows of several
recordings are written down together.
"""

import zlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path

import numpy as np
import torch

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerLoad
from msp_model_service.engines import torch_device
from msp_model_service.engines.lifecycle import EngineOptions, OnPhase
from msp_model_service.engines.model_facts import ModelFacts
from msp_model_service.engines.packed_linear import pack
from msp_model_service.engines.transcriber import Language, Segment, TranscriptionRequest
from msp_model_service.engines.whisper import checkpoint
from msp_model_service.engines.whisper.checkpoint import Checkpoint
from msp_model_service.engines.whisper.loop import Emit, End, WritingLoop
from msp_model_service.engines.whisper.network import Network
from msp_model_service.engines.whisper.recording import Recording
from msp_model_service.engines.whisper.trust import FALL_BACK
from msp_model_service.engines.whisper.writing import Writing


class WhisperTranscriber:
    """One loaded model and one thread for it."""

    name = "whisper"

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._checkpoint: Checkpoint | None = None
        self._loop: WritingLoop | None = None

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        """Load and hear one window of silence."""
        on_phase("weights", None)
        loaded = self._checkpoint = checkpoint.load(folder, self._options)
        if loaded.device.type == "cpu":
            on_phase("packing", None)
            pack(loaded.model)
        network = Network(loaded.model)
        on_phase("warm-up", None)
        _hear_silence(loaded, network)
        self._loop = WritingLoop(
            Writing(loaded, network, FALL_BACK if self._options.audio_fall_back else FALL_BACK[:1]),
            network.windows_per_pass,
            self._options.max_queued,
            broken_by=(torch.AcceleratorError,),
        )
        self._loop.start()

    def unload(self) -> None:
        """End all work and drop the weights."""
        if self._loop is not None:
            self._loop.stop()
        self._checkpoint = self._loop = None
        torch_device.release()

    def capabilities(self) -> Capabilities:
        """Translation only where the model was trained for it."""
        paths = [
            path for path in ModelType.TRANSCRIPTION.paths if self.translates() or "translat" not in path
        ]
        return Capabilities(paths=paths, input_modalities=["audio"], engine=self.name)

    def model_facts(self) -> ModelFacts:
        """See TellsModelFacts."""
        model = self._loaded.model
        return ModelFacts(type(model).__name__, str(model.dtype).removeprefix("torch."))

    def load_now(self) -> WorkerLoad:
        """Recordings that are written down, and those that wait."""
        return WorkerLoad() if self._loop is None else self._loop.load_now()

    def problem(self) -> str | None:
        """What broke, if the thread's work fails again and again."""
        return None if self._loop is None else self._loop.problem()

    def languages(self) -> Mapping[str, tuple[str, ...]]:
        """Those that the checkpoint has a token for; of an English-only model, English."""
        return self._loaded.languages()

    def translates(self) -> bool:
        """Not by English-only models."""
        return self._loaded.translates

    def check_prompt(self, prompt: str) -> None:
        """Control tokens in a prompt would change what the model does."""
        self._loaded.prompt_ids(prompt)

    async def transcribe(self, request: TranscriptionRequest) -> AsyncGenerator[Language | Segment, None]:
        """See Transcriber."""
        loaded = self._loaded
        prompt = loaded.prompt_ids(request.prompt)
        # Draws that nobody asked for depend on the recording alone: asked again, it reads the same.
        seed = zlib.crc32(request.audio.tobytes())

        def make(emit: Emit, end: End) -> Recording:
            return Recording(request, loaded, prompt, emit, end, seed)

        if self._loop is None:
            raise RuntimeError("the engine is not loaded")
        async with aclosing(self._loop.stream(make)) as items:
            async for item in items:
                yield item

    @property
    def _loaded(self) -> Checkpoint:
        if self._checkpoint is None:
            raise RuntimeError("the engine is not loaded")
        return self._checkpoint


def _hear_silence(loaded: Checkpoint, network: Network) -> None:
    """Write one window down, so that no request pays for what is done only once."""
    silence = TranscriptionRequest(np.zeros(loaded.window_samples, dtype=np.float32))
    writing = Writing(loaded, network, (0.0,))
    writing.begin([Recording(silence, loaded, [], lambda item: None, lambda error: None, 0)])
    while not writing.rows[0].ended:
        writing.step()
