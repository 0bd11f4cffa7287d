"""The plain engine: transformers' own `generate`, one request after the other, in one thread.

Slow under load and right for every architecture. `generate` runs the forward passes and keeps the cache;
which token comes next is chosen by TokenSampler, through the one hook that `generate` offers for it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerLoad
from msp_common.errors import ApiError, InternalError, InvalidRequest, Unavailable
from msp_model_service.chat.conversation import Conversation
from msp_model_service.engines import chat_facts, chat_model, torch_device
from msp_model_service.engines.admission import room_for
from msp_model_service.engines.chat import (
    GenerationRequest,
    PreparedPrompt,
    PromptToken,
    TokenEvent,
    Usage,
)
from msp_model_service.engines.chat_model import ChatModel
from msp_model_service.engines.engine_thread import Abandoned, EngineThread, Job
from msp_model_service.engines.event_stream import EventStream
from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions, OnPhase
from msp_model_service.engines.model_facts import ModelFacts
from msp_model_service.engines.prompt_scores import scored
from msp_model_service.engines.sampling import TokenSampler
from msp_model_service.engines.speed import Speed
from msp_model_service.engines.token_events import TokenEvents

log = logging.getLogger(__name__)

_TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")
"""Inputs that say of each token whether it stands for an image: 0 for a word."""


class GenerateChatEngine:
    """A ChatEngine for language models, with or without images."""

    name = "generate"

    def __init__(self, options: EngineOptions, model_type: ModelType) -> None:
        self._options = options
        self._model_type = model_type
        self._loaded: ChatModel | None = None
        self._thread = EngineThread("chat", options.max_queued, broken_by=(torch.AcceleratorError,))
        self._speed = Speed(time.monotonic)

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        """See Engine."""
        self._loaded = chat_model.load(folder, self._model_type, self._options, on_phase)
        on_phase("warm-up", None)
        try:
            self._warm_up(self._loaded)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise EngineLoadFailed(f"the model loads, but its first forward pass fails: {error}") from error
        self._thread.start()

    def unload(self) -> None:
        """See Engine."""
        self._thread.stop()
        if self._loaded is not None and self._loaded.forms is not None:
            self._loaded.forms.close()
        self._loaded = None
        torch_device.release()

    def capabilities(self) -> Capabilities:
        """See Engine."""
        loaded = self._ready()
        paths = self._model_type.paths if loaded.profile else ("/v1/completions",)
        return Capabilities(
            paths=list(paths),
            input_modalities=["text", "image"] if loaded.sees_images else ["text"],
            context_length=loaded.context_length,
            tools=loaded.profile is not None and loaded.profile.tool_format is not None,
            json_schema=loaded.forms is not None and loaded.profile is not None,
            logprobs=True,
            engine=self.name,
            quantization=loaded.quantization,
        )

    def load_now(self) -> WorkerLoad:
        """See Engine."""
        return self._thread.load_now().model_copy(update={"tokens_per_s": self._speed.tokens_per_s()})

    def model_facts(self) -> ModelFacts:
        """See TellsModelFacts."""
        return chat_facts.of(self._ready(), scores_prompts=True)

    def problem(self) -> str | None:
        """See Engine."""
        return self._thread.problem()

    async def prepare_chat(self, conversation: Conversation) -> PreparedPrompt:
        """See ChatEngine."""
        return await asyncio.to_thread(self._ready().prepare_chat, conversation)

    async def prepare_text(self, prompt: str | Sequence[int]) -> PreparedPrompt:
        """See ChatEngine."""
        return replace(await asyncio.to_thread(self._ready().prepare_text, prompt), scorable=True)

    def generate(self, request: GenerationRequest) -> EventStream:
        """See ChatEngine."""
        loaded = self._ready()
        max_tokens = room_for(
            request, context_length=loaded.context_length, vocabulary_size=loaded.vocabulary_size
        )
        stream = EventStream()
        job = self._thread.submit(
            lambda job: self._generate(loaded, request, max_tokens, job, stream),
        )
        stream.on_close(lambda: self._thread.leave(job))
        job.future.add_done_callback(stream.end_as)
        return stream

    def _ready(self) -> ChatModel:
        if self._loaded is None:
            raise Unavailable("The model is not loaded.", retry_after_s=1)
        return self._loaded

    def _warm_up(self, loaded: ChatModel) -> None:
        ids = torch.tensor([[0]], device=loaded.device)
        with torch.inference_mode():
            loaded.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=1)

    def _generate(
        self,
        loaded: ChatModel,
        request: GenerationRequest,
        max_tokens: int,
        job: Job[None],
        stream: EventStream,
    ) -> None:
        """One generation, in the engine's thread."""
        try:
            with torch.inference_mode():
                self._run(loaded, request, max_tokens, job, stream)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise InternalError("The GPU's memory does not suffice for this request.") from error
        except (ApiError, Abandoned, torch.AcceleratorError):
            raise
        except Exception as error:
            # The request's own failure: sent again and again, it must not pass for a broken engine.
            log.exception("generation failed")
            raise InternalError("The model failed on this request; the log has the cause.") from error

    def _run(
        self,
        loaded: ChatModel,
        request: GenerationRequest,
        max_tokens: int,
        job: Job[None],
        stream: EventStream,
    ) -> None:
        prompt = request.prompt
        scores = _scores(loaded, request) if request.score_prompt else ()
        if max_tokens == 0:
            usage = Usage(len(prompt.token_ids), 0)
            stream.put(TokenEvent(finish="length", usage=usage, prompt_tokens=scores))
            return
        sampler = TokenSampler(
            request.sampling,
            loaded.defaults,
            loaded.vocabulary,
            top_logprobs=request.top_logprobs,
            device=loaded.device,
            grammar=request.grammar,
            begun=request.begun,
        )
        events = TokenEvents(
            request,
            loaded.vocabulary,
            end_ids=loaded.end_ids,
            max_tokens=max_tokens,
            shown_ids=loaded.marker_ids(prompt.tool_format),
        )

        def tell(event: TokenEvent) -> None:
            nonlocal scores
            event, scores = replace(event, prompt_tokens=scores), ()
            self._speed.note(1)
            stream.put(event)
            if event.finish is None:
                job.step()

        for token_id in request.begun:
            event = events.feed(token_id)
            tell(event)
            if event.finish is not None:
                return
        choosing = _Choosing(sampler, events, tell)
        inputs = _with_begun(prompt.inputs, request.begun)
        loaded.model.generate(
            **{name: _on_device(value, loaded) for name, value in inputs.items()},
            max_new_tokens=max_tokens - len(request.begun),
            logits_processor=LogitsProcessorList([choosing]),
            stopping_criteria=StoppingCriteriaList([choosing.ended]),
        )


def _scores(loaded: ChatModel, request: GenerationRequest) -> tuple[PromptToken, ...]:
    ids, top = request.prompt.token_ids, request.top_logprobs or 0
    return scored(loaded.model, ids, top, loaded.vocabulary, loaded.device)


def _with_begun(inputs: Any, begun: Sequence[int]) -> dict[str, Any]:
    """A prompt's inputs with tokens of the answer behind it. Raises InvalidRequest where none may be."""
    if not begun:
        return dict(inputs)
    length = inputs["input_ids"].shape[1]
    tokens = {"input_ids": torch.tensor([begun]), "attention_mask": torch.ones(1, len(begun)).long()}
    extended: dict[str, Any] = {}
    for name, value in inputs.items():
        if name in tokens or name in _TOKEN_TYPES:
            behind = tokens.get(name, torch.zeros(1, len(begun)).long())
            extended[name] = torch.cat([value, behind.to(value)], dim=1)
        elif isinstance(value, torch.Tensor) and value.dim() > 1 and value.shape[1] == length:
            raise InvalidRequest(
                "Unsupported value for 'continue': not with images of this model, by this engine.",
                param="continue",
                code="unsupported_value",
            )
        else:
            extended[name] = value
    return extended


def _on_device(value: Any, loaded: ChatModel) -> Any:
    """An input on the model's device; pixels in the model's precision, token ids as they are."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(loaded.device, loaded.model.dtype if value.is_floating_point() else None)


class _Choosing:
    """A logits processor that chooses: of all scores it leaves one, which `generate` must then take.

    What `tell` raises ends the generation: its reader left, or the worker stops.
    """

    def __init__(
        self, sampler: TokenSampler, events: TokenEvents, tell: Callable[[TokenEvent], None]
    ) -> None:
        self._sampler = sampler
        self._events = events
        self._tell = tell
        self._finished = False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        token_id, logprob = self._sampler.choose(input_ids, scores)
        event = self._events.feed(token_id, logprob)
        self._finished = event.finish is not None
        self._tell(event)
        only = torch.full_like(scores, float("-inf"))
        only[0, token_id] = 0.0
        return only

    def ended(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        """A stopping criterion: the answer is complete."""
        return torch.tensor([self._finished], device=input_ids.device)
