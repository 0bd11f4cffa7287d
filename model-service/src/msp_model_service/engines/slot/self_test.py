"""Before the first client: a few requests through the batch and through `generate`, their logits compared.

Every request is led along the tokens that `generate` chose, so that one token that is nearly as likely as
another, which rounding decides, does not make all that follow incomparable.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from msp_common.errors import ApiError
from msp_model_service.chat.conversation import Conversation, Message, Picture, Role, Text
from msp_model_service.engines.chat import GenerationRequest, PreparedPrompt, Sampling, TokenEvent
from msp_model_service.engines.chat_model import ChatModel
from msp_model_service.engines.slot.accepting import prepared, sequence_for
from msp_model_service.engines.slot.batch import Batch
from msp_model_service.engines.slot.fitness import SlotUnfit
from msp_model_service.engines.slot.forward import Forward
from msp_model_service.engines.slot.scheduler import FIRST, GRAIN, Limits
from msp_model_service.engines.slot.vision import on_device

log = logging.getLogger(__name__)

TOKENS = 6
"""Answer length of each test request."""

PROMPTS = (3, 21, 40)
"""Prompt lengths: within one piece of the prefill budget, and beyond."""

PREFILL_TOKENS = 16
TOLERANCE = {torch.float32: 1e-3}
"""Largest difference, as a share of the logits' own spread, that rounding explains."""

COARSE_TOLERANCE = 0.15
"""The same for 16-bit weights, whose sums depend on the order in which they are made, and for quantised
ones, whose layers choose their arithmetic by the number of rows."""


@dataclass
class _Led:
    """A grammar that allows only what `generate` said, and keeps the logits that it was shown."""

    said: list[int]
    shown: list[torch.Tensor] = field(default_factory=list)

    def mask(self, logits: torch.Tensor) -> None:
        """See Grammar."""
        wanted = self.said[len(self.shown)]
        self.shown.append(logits.clone())
        kept = logits[wanted].clone()
        logits.fill_(float("-inf"))
        logits[wanted] = kept

    def accept(self, token_id: int) -> None:
        """See Grammar."""

    @property
    def finished(self) -> bool:
        """See Grammar."""
        return False


@dataclass
class _Listener:
    """A Reader that wants to know of failures only."""

    error: ApiError | None = None
    ended: bool = False

    def put(self, event: TokenEvent) -> None:
        """See Reader."""
        self.ended = self.ended or event.finish is not None

    def fail(self, error: ApiError) -> None:
        """See Reader."""
        self.error, self.ended = error, True


@torch.inference_mode()
def check(loaded: ChatModel, forward: Forward) -> None:
    """Raises SlotUnfit if the two disagree or either fails. Leaves the cache empty."""
    prompts = _prompts(loaded)
    try:
        references = [_generated(loaded, inputs) for _, inputs in prompts]
    except Exception as error:  # whatever a model raises here, `generate` itself cannot be compared with
        raise SlotUnfit(f"transformers' own generate fails on it: {error!r}") from error
    leaders = [_Led(said) for said, _ in references]
    limits = Limits(max_rows=4, prefill_tokens=PREFILL_TOKENS, kv_tokens=FIRST.rows * 16 * GRAIN)
    batch = Batch(forward, loaded.vocabulary, limits)
    listeners = [_Listener() for _ in prompts]
    for key, ((prompt, _), leader, listener) in enumerate(zip(prompts, leaders, listeners, strict=True)):
        request = GenerationRequest(prompt, Sampling(temperature=0), ignore_eos=True, grammar=leader)
        batch.waiting.append(sequence_for(loaded, request, listener, key=key, max_tokens=TOKENS))
    while not batch.idle:
        batch.step()
    for listener in listeners:
        if listener.error is not None:
            raise SlotUnfit(f"a forward pass in rows fails on it: {listener.error.__cause__!r}")
    rounds = loaded.quantization is not None
    tolerance = COARSE_TOLERANCE if rounds else TOLERANCE.get(loaded.model.dtype, COARSE_TOLERANCE)
    _compare(leaders, [logits for _, logits in references], tolerance)


def _prompts(loaded: ChatModel) -> list[tuple[PreparedPrompt, Mapping[str, Any]]]:
    """Random words of several lengths; with images too, where the model sees them."""
    lengths = [n for n in PROMPTS if loaded.context_length is None or n + TOKENS <= loaded.context_length]
    random = torch.Generator().manual_seed(0)
    usable = torch.tensor([i for i in range(len(loaded.tokenizer)) if not loaded.vocabulary.is_control(i)])
    usable = usable[usable < loaded.vocabulary_size]
    made: list[tuple[PreparedPrompt, Mapping[str, Any]]] = []
    for length in lengths:
        ids = usable[torch.randint(len(usable), (1, length), generator=random)]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        made.append((PreparedPrompt(tuple(ids[0].tolist()), continues=True), inputs))
    if loaded.sees_images:
        picture = Picture(Image.effect_noise((64, 48), 90).convert("RGB"), b"", "image/png")
        prompt = loaded.prepare_chat(Conversation((Message(Role.USER, (picture, Text("What is it?"))),)))
        given: Any = prompt.inputs
        made.append((prepared(loaded, prompt), given))
    return made


def _generated(loaded: ChatModel, inputs: Mapping[str, Any]) -> tuple[list[int], torch.Tensor]:
    """Tokens and logits ([tokens, vocabulary]) of transformers' own generate."""
    out = loaded.model.generate(
        **{name: on_device(value, loaded) for name, value in inputs.items()},
        max_new_tokens=TOKENS,
        min_new_tokens=TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return out.sequences[0, -TOKENS:].tolist(), torch.cat([part.float() for part in out.logits])


def _compare(leaders: list[_Led], references: list[torch.Tensor], tolerance: float) -> None:
    worst = 0.0
    for leader, right in zip(leaders, references, strict=True):
        if not right.isfinite().all():
            continue  # the model itself computes nonsense for these words; nothing can be compared
        difference = (torch.stack(leader.shown) - right).square().mean(dim=-1).sqrt().max()
        worst = max(worst, float(difference / right.std().clamp_min(1e-6)))
    if not worst <= tolerance:
        raise SlotUnfit(
            f"its logits in a batch differ from those of transformers' generate by {worst:.2g} of their "
            f"spread, more than the {tolerance} that rounding explains"
        )
    log.info("self-test: logits differ from generate's by at most %.2g of their spread", worst)
