"""The batching engine as a ChatEngine."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerLoad
from msp_common.errors import Unavailable
from msp_model_service.chat.conversation import Conversation
from msp_model_service.engines import chat_facts, chat_model, packed_linear, torch_device
from msp_model_service.engines.admission import room_for
from msp_model_service.engines.chat import GenerationRequest, PreparedPrompt
from msp_model_service.engines.chat_model import ChatModel
from msp_model_service.engines.figures import EngineFigures
from msp_model_service.engines.lifecycle import (
    QUEUE_DEADLINE_S,
    EngineLoadFailed,
    EngineOptions,
    OnPhase,
)
from msp_model_service.engines.model_facts import ModelFacts
from msp_model_service.engines.precision import cpu_dtype
from msp_model_service.engines.slot import fitness, self_test
from msp_model_service.engines.slot.accepting import prepared, sequence_for
from msp_model_service.engines.slot.batch import Batch
from msp_model_service.engines.slot.delivery import BatchedStream, Outbox
from msp_model_service.engines.slot.fitness import SlotUnfit
from msp_model_service.engines.slot.forward import Forward
from msp_model_service.engines.slot.kv_budget import kv_bytes
from msp_model_service.engines.slot.loop import SlotLoop
from msp_model_service.engines.slot.scheduler import FIRST, GRAIN, Limits
from msp_model_service.engines.slot.step_recorder import StepRecorder, recorder_for
from msp_model_service.engines.slot.tally import Tally
from msp_model_service.engines.speed import Speed

log = logging.getLogger(__name__)

_BROKEN_BY = (torch.AcceleratorError,)


@dataclass(frozen=True)
class SlotTuning:
    """How the engine trades memory, speed and fairness; None: by device and free memory."""

    max_rows: int | None = None
    """Requests answered at the same time."""
    prefill_tokens: int | None = None
    """Prompt tokens read between two tokens of those who are being answered."""
    kv_tokens: int | None = None
    """Positions that all rows together may have."""
    queue_deadline_s: float = QUEUE_DEADLINE_S
    pack_weights: bool = True
    """Whether a CPU's weights are laid out for oneDNN."""
    cpu_dtype: Callable[[Any], torch.dtype] = cpu_dtype
    recorder: Callable[[torch.device], StepRecorder | None] = recorder_for
    """What records decode steps on a device; None: nothing."""

    @classmethod
    def of(cls, options: EngineOptions) -> "SlotTuning":
        """What the operator said."""
        return cls(
            max_rows=options.max_running,
            prefill_tokens=options.prefill_tokens,
            queue_deadline_s=options.queue_deadline_s,
            recorder=recorder_for if options.cuda_graphs == "auto" else lambda device: None,
        )


@dataclass(frozen=True)
class _Running:
    """What there is once a model is loaded."""

    loaded: ChatModel
    forward: Forward
    batch: Batch
    loop: SlotLoop
    outbox: Outbox
    context_length: int
    """The model's, or what the memory for keys and values allows if that is less."""


class SlotChatEngine:
    """A ChatEngine for language models, with or without images, that answers many requests at once.

    `load` raises SlotUnfit for models that another engine must serve.
    """

    name = "slot"

    def __init__(
        self, options: EngineOptions, model_type: ModelType, tuning: SlotTuning | None = None
    ) -> None:
        self._options = options
        self._model_type = model_type
        self._tuning = tuning or SlotTuning.of(options)
        self._running: _Running | None = None
        self._speed = Speed(time.monotonic)
        self._keys = itertools.count()

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        """See Engine. Also raises SlotUnfit."""
        on_phase("fitness", None)
        if reason := _unfit_by_configuration(folder):
            raise SlotUnfit(_sentence(reason))
        loaded = chat_model.load(
            folder, self._model_type, self._options, on_phase, cpu_dtype=self._tuning.cpu_dtype
        )
        try:
            self._running = self._examined(loaded, on_phase)
        except BaseException:
            _let_go(loaded)
            raise

    def _examined(self, loaded: ChatModel, on_phase: OnPhase) -> _Running:
        """Ready to answer. Raises SlotUnfit."""
        if reason := fitness.model_obstacle(loaded.model):
            raise SlotUnfit(_sentence(reason))
        if loaded.device.type == "cpu" and self._tuning.pack_weights:
            on_phase("packing weights", None)
            log.info("%d layers' weights are laid out for this processor", packed_linear.pack(loaded.model))
        on_phase("self-test", None)
        forward = Forward(loaded.model, self._tuning.recorder(loaded.device))
        try:
            _test(loaded, forward)
        except SlotUnfit as error:
            raise SlotUnfit(_sentence(str(error))) from error
        return self._started(loaded, forward)

    def unload(self) -> None:
        """See Engine."""
        running, self._running = self._running, None
        if running is not None:
            running.loop.stop()
            _let_go(running.loaded)
        del running
        torch_device.release()

    def capabilities(self) -> Capabilities:
        """See Engine."""
        loaded, recorded = self._ready().loaded, self._ready().forward.recorded
        paths = self._model_type.paths if loaded.profile else ("/v1/completions",)
        return Capabilities(
            paths=list(paths),
            input_modalities=["text", "image"] if loaded.sees_images else ["text"],
            context_length=self._ready().context_length,
            tools=loaded.profile is not None and loaded.profile.tool_format is not None,
            json_schema=loaded.forms is not None and loaded.profile is not None,
            logprobs=True,
            engine=self.name,
            quantization=loaded.quantization,
            engine_note=recorded.note if recorded is not None else None,
        )

    def load_now(self) -> WorkerLoad:
        """See Engine."""
        if self._running is None:
            return WorkerLoad()
        load = self._running.loop.load_now()
        return load.model_copy(update={"tokens_per_s": self._speed.tokens_per_s()})

    def problem(self) -> str | None:
        """See Engine."""
        return self._running.loop.problem() if self._running is not None else None

    def figures(self) -> EngineFigures:
        """See TellsFigures."""
        if self._running is None:
            return EngineFigures()
        batch = self._running.batch
        return EngineFigures(
            batch_rows=len(batch.running),
            kv_used=batch.positions_in_use() / batch.limits.kv_tokens,
            prompt_tokens_reused=batch.tally.reused,
        )

    def model_facts(self) -> ModelFacts:
        """See TellsModelFacts."""
        return chat_facts.of(self._ready().loaded, scores_prompts=True)

    def tally(self) -> Tally:
        """What has been done so far."""
        return self._ready().batch.tally

    async def prepare_chat(self, conversation: Conversation) -> PreparedPrompt:
        """See ChatEngine."""
        loaded = self._ready().loaded
        return await asyncio.to_thread(lambda: prepared(loaded, loaded.prepare_chat(conversation)))

    async def prepare_text(self, prompt: str | Sequence[int]) -> PreparedPrompt:
        """See ChatEngine."""
        loaded = self._ready().loaded
        made = await asyncio.to_thread(lambda: prepared(loaded, loaded.prepare_text(prompt)))
        return replace(made, scorable=True)

    def generate(self, request: GenerationRequest) -> BatchedStream:
        """See ChatEngine."""
        running = self._ready()
        loaded, loop = running.loaded, running.loop
        max_tokens = room_for(
            request, context_length=running.context_length, vocabulary_size=loaded.vocabulary_size
        )
        stream = BatchedStream(running.outbox)
        sequence = sequence_for(
            loaded,
            request,
            stream,
            key=next(self._keys),
            max_tokens=max_tokens,
            accepted_at=time.monotonic(),
        )
        stream.on_over = lambda: loop.ended(sequence)
        loop.submit(sequence)
        stream.on_close(lambda: loop.leave(sequence))
        return stream

    def _ready(self) -> _Running:
        if self._running is None:
            raise Unavailable("The model is not loaded.", retry_after_s=1)
        return self._running

    def _started(self, loaded: ChatModel, forward: Forward) -> _Running:
        limits = self._limits(loaded, forward)
        forward.cache.clear(FIRST)
        outbox = Outbox()
        batch = Batch(forward, loaded.vocabulary, limits, broken_by=_BROKEN_BY)
        loop = SlotLoop(
            batch,
            outbox,
            max_rows=limits.max_rows,
            max_queued=self._options.max_queued,
            probe=forward.probe,
            deadline_s=self._tuning.queue_deadline_s,
            broken_by=_BROKEN_BY,
            note_tokens=self._speed.note,
        )
        context = min(limits.kv_tokens, loaded.context_length or limits.kv_tokens)
        if loaded.context_length is not None and context < loaded.context_length:
            log.warning(
                "memory allows %d tokens of context, less than the model's %d",
                limits.kv_tokens,
                loaded.context_length,
            )
        loop.start()
        return _Running(loaded, forward, batch, loop, outbox, context)

    def _limits(self, loaded: ChatModel, forward: Forward) -> Limits:
        """After the self-test, when the size of a position is known."""
        tuning, gpu = self._tuning, loaded.device.type == "cuda"
        kv_tokens = tuning.kv_tokens
        if kv_tokens is None:
            kv_tokens = self._affordable(loaded, forward.cache.bytes_per_position())
        limits = Limits(
            max_rows=tuning.max_rows or (64 if gpu else 32),
            prefill_tokens=tuning.prefill_tokens or (2048 if gpu else 256),
            kv_tokens=kv_tokens,
        )
        log.info("slot engine: %s, %d bytes per position", limits, forward.cache.bytes_per_position())
        return limits

    def _affordable(self, loaded: ChatModel, bytes_per_position: int) -> int:
        """Positions that memory allows. Raises EngineLoadFailed if these are too few to answer anybody."""
        options = self._options
        budget = kv_bytes(
            loaded.device,
            options.gpu_memory_fraction,
            share=options.kv_memory_fraction,
            workers_per_host=options.workers_per_host,
        )
        positions = budget // max(1, bytes_per_position)
        if positions < GRAIN:
            raise EngineLoadFailed(
                f"the memory for keys and values is {budget >> 20} MiB, and the shortest conversation needs "
                f"{GRAIN * bytes_per_position >> 20}; free memory, take a smaller model or "
                "QUANTIZATION=bnb-4bit, or raise KV_MEMORY_FRACTION"
                + (" or GPU_MEMORY_FRACTION" if loaded.device.type == "cuda" else "")
            )
        return positions


def _test(loaded: ChatModel, forward: Forward) -> None:
    """Raises SlotUnfit if the model does not work in rows, also without recorded steps."""
    recorded = forward.recorded
    if recorded is not None and loaded.quantization is not None:
        recorded.give_up("its weights are quantised, and their layers' own kernels were never recorded")
    try:
        self_test.check(loaded, forward)
    except SlotUnfit as error:
        if recorded is None or recorded.note is not None:
            raise
        recorded.give_up(f"the self-test failed with them: {error}")
    else:
        return
    # What a wrong step wrote may be no number, which even masked would spoil the next attempt.
    forward.cache.clear(FIRST)
    self_test.check(loaded, forward)


def _let_go(loaded: ChatModel) -> None:
    if loaded.forms is not None:
        loaded.forms.close()


def _unfit_by_configuration(folder: Path) -> str | None:
    """Known before the weights are read; what else is wrong with the folder is told by loading it."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError):
        return None
    return fitness.obstacle(config)


def _sentence(reason: str) -> str:
    return (
        f"the slot engine cannot serve this model: {reason}; "
        "ENGINE=auto or ENGINE=generate serves it, one request at a time"
    )
