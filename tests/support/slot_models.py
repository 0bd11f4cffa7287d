"""Tiny random language models of many architectures, and a batch around one of them."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from transformers import GenerationConfig

from msp_common.errors import ApiError
from msp_model_service.engines.chat import GenerationRequest, PreparedPrompt, Sampling, TokenEvent
from msp_model_service.engines.chat_model import ChatModel
from msp_model_service.engines.grammar import Grammar
from msp_model_service.engines.sampling import SamplingDefaults
from msp_model_service.engines.slot import accepting
from msp_model_service.engines.slot.batch import Batch
from msp_model_service.engines.slot.forward import Forward
from msp_model_service.engines.slot.scheduler import Limits
from msp_model_service.engines.slot.sequence import Sequence as Sequence_
from msp_model_service.engines.slot.step_recorder import StepRecorder
from support.architectures import class_of

VOCABULARY = 512
CONTEXT = 512
_SHAPE: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "eos_token_id": None,
    "bos_token_id": 1,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}


def build(name: str, options: Mapping[str, Any]) -> Any:
    """A random model that says many different things; `name` may have an explanation behind the family."""
    config_class = getattr(transformers, f"{name.split()[0]}Config")
    model_class = getattr(transformers, class_of(name))
    torch.manual_seed(0)
    config = config_class(**{**_SHAPE, **options})
    config.eos_token_id = None
    model = model_class(config).eval().float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=0.08)
    model.generation_config = GenerationConfig(pad_token_id=0)
    return model


def generated(model: Any, prompt: Sequence[int], tokens: int, **inputs: Any) -> list[int]:
    """What transformers' own `generate` says."""
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        out = model.generate(
            **{"input_ids": ids, "attention_mask": torch.ones_like(ids), **inputs},
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=None,
        )
    answer: list[int] = out[0, len(prompt) :].tolist()
    return answer


def some_words(chance: random.Random, length: int) -> list[int]:
    """Random token ids."""
    return [chance.randrange(2, VOCABULARY) for _ in range(length)]


class Letters:
    """A vocabulary in which every token is a letter."""

    size = VOCABULARY

    def bytes_of(self, token_id: int) -> bytes:
        return b"abcdefghijklmnop"[token_id % 16 :][:1]

    def first_bytes_of(self, token_id: int) -> bytes:
        return self.bytes_of(token_id)

    def is_control(self, token_id: int) -> bool:
        return False


def around(model: Any, context: int | None = CONTEXT) -> ChatModel:
    """A ChatModel whose tokenizer knows no tokens by name."""
    vocabulary: Any = Letters()
    tokenizer: Any = SimpleNamespace(added_tokens_encoder={})
    return ChatModel(
        model=model,
        tokenizer=tokenizer,
        processor=None,
        templates={},
        profile=None,
        vocabulary=vocabulary,
        end_ids=frozenset(),
        defaults=SamplingDefaults(),
        context_length=context,
        vocabulary_size=model.config.get_text_config().vocab_size,
        device=torch.device("cpu"),
    )


@dataclass
class Answer:
    """A Reader that remembers what it was told."""

    events: list[TokenEvent] = field(default_factory=list)
    error: ApiError | None = None

    def put(self, event: TokenEvent) -> None:
        assert not self.over, "told something after the end"
        self.events.append(event)

    def fail(self, error: ApiError) -> None:
        assert not self.over, "told something after the end"
        self.error = error

    @property
    def over(self) -> bool:
        return self.error is not None or bool(self.events and self.events[-1].finish)

    @property
    def ids(self) -> list[int]:
        return [token_id for event in self.events for token_id in event.token_ids]


class Table:
    """A batch of one model, with requests put in and answers taken out by hand; no thread."""

    def __init__(
        self,
        model: Any,
        *,
        rows: int = 8,
        prefill: int = 64,
        kv_tokens: int = 64 * CONTEXT,
        broken_by: tuple[type[BaseException], ...] = (),
        recorder: StepRecorder | None = None,
    ) -> None:
        self.loaded = around(model)
        self.forward = Forward(model, recorder)
        limits = Limits(max_rows=rows, prefill_tokens=prefill, kv_tokens=kv_tokens)
        self.batch = Batch(self.forward, self.loaded.vocabulary, limits, broken_by=broken_by)
        self._keys = 0

    def ask(
        self,
        prompt: list[int],
        tokens: int,
        sampling: Sampling | None = None,
        *,
        grammar: Grammar | None = None,
    ) -> tuple[Sequence_, Answer]:
        """Put a request into the queue."""
        answer = Answer()
        sampling = sampling or Sampling(temperature=0)
        request = GenerationRequest(PreparedPrompt(tuple(prompt)), sampling, ignore_eos=True, grammar=grammar)
        sequence = accepting.sequence_for(self.loaded, request, answer, key=self._keys, max_tokens=tokens)
        self._keys += 1
        self.batch.waiting.append(sequence)
        return sequence, answer

    @torch.inference_mode()
    def step(self) -> None:
        """One step."""
        self.batch.step()

    def finish(self) -> None:
        """Steps until all have ended."""
        while not self.batch.idle:
            self.step()
