"""A language model loaded from a snapshot, and how prompts are made for it."""

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.utils.logging import disable_progress_bar

from msp_common.contracts.model_type import ModelType
from msp_common.errors import InvalidRequest
from msp_model_service.chat.conversation import Conversation
from msp_model_service.chat.overrides import WrongOverrides, overrides_of
from msp_model_service.chat.reasoning import reasoning_of
from msp_model_service.chat.template import REFUSALS, TemplateProfile, probe, template_messages
from msp_model_service.chat.tool_formats import ToolFormat
from msp_model_service.chat.vocabulary import TokenizerVocabulary
from msp_model_service.engines import quantization, torch_device
from msp_model_service.engines.chat import PreparedPrompt, Sampling
from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions, OnPhase
from msp_model_service.engines.llguidance_grammar import LlForms, can_guide
from msp_model_service.engines.sampling import SamplingDefaults

log = logging.getLogger(__name__)

_RESERVED = frozenset(
    {
        *("conversation", "messages", "tools", "documents", "chat_template", "tokenize"),
        *("add_generation_prompt", "continue_final_message", "return_assistant_tokens_mask"),
        *("return_tensors", "return_dict", "padding", "truncation", "max_length"),
        *("tokenizer_kwargs", "processor_kwargs", "sanitize_control_tokens", "load_audio_from_video"),
        *("text", "image", "images", "video", "videos", "audio", "sampling_rate"),
    }
)
"""What no request may set through `chat_template_kwargs`: it means something to transformers itself, which
would open an image that is named there."""

_WORDS = frozenset({"reasoning_effort"})
"""Variables of templates that may be words even where a processor reads them too: it knows none so named."""


@dataclass
class ChatModel:
    """Weights, tokenizer and what was found out about them."""

    model: Any
    tokenizer: Any
    processor: Any
    """None for a text-only model."""
    templates: Mapping[str, str]
    """Chat templates: `default`, and `tool_use` where tools have one of their own. Empty for a model without,
    which only continues texts."""
    profile: TemplateProfile | None
    vocabulary: TokenizerVocabulary
    end_ids: frozenset[int]
    defaults: SamplingDefaults
    context_length: int | None
    vocabulary_size: int
    """Of the output layer: what `logit_bias` and token prompts may name."""
    device: torch.device
    tokenizing: threading.Lock = field(default_factory=threading.Lock)
    """A tokenizer's treatment of control tokens is a switch inside it: one prompt at a time."""
    forms: LlForms | None = None
    """Null where answers cannot be held to a form."""
    quantization: str | None = None
    """See Capabilities."""

    @property
    def sees_images(self) -> bool:
        """Whether messages may hold images."""
        return self.processor is not None and self.profile is not None

    def marker_ids(self, form: ToolFormat | None) -> frozenset[int]:
        """Control tokens that belong to the text after all: some families' markers of calls are special,
        and so are those of thinking."""
        reasoning = self.profile.reasoning if self.profile is not None else None
        markers = (*(form.markers if form else ()), *(reasoning.markers if reasoning else ()))
        known = self.tokenizer.added_tokens_encoder
        return frozenset(known[marker] for marker in markers if marker in known)

    def prepare_chat(self, conversation: Conversation) -> PreparedPrompt:
        """Blocking. Control tokens within clients' words are read as text: nobody can forge a turn."""
        if self.profile is None:
            raise InvalidRequest(
                "This model has no chat template; use /v1/completions.",
                param="messages",
                code="unsupported_value",
            )
        arguments = self._arguments(conversation)
        tools = [dict(tool) for tool in conversation.tools] or None
        try:
            with self.tokenizing:
                inputs = self._apply(template_messages(conversation, self.profile), tools, arguments)
        except REFUSALS as error:
            raise InvalidRequest(
                f"The model's chat template refuses this conversation: {error}.",
                param="messages",
                code="invalid_value",
            ) from error
        token_ids = tuple(inputs["input_ids"][0].tolist())
        form = self.profile.tool_format if tools else None
        reasoning = self.profile.reasoning
        return PreparedPrompt(
            token_ids,
            tool_format=form,
            reasoning=reasoning,
            thinks=reasoning is not None and reasoning.begun_in(self._end_of(token_ids)),
            sampling=Sampling(temperature=self.defaults.temperature, top_p=self.defaults.top_p),
            forms=self.forms,
            inputs=inputs,
        )

    def _end_of(self, token_ids: tuple[int, ...]) -> str:
        """The prompt's last words, control tokens included."""
        return str(self.tokenizer.decode(token_ids[-16:], skip_special_tokens=False))

    def prepare_text(self, prompt: str | Sequence[int]) -> PreparedPrompt:
        """Blocking. A text gets the special tokens that its tokenizer adds, a beginning-of-text mostly."""
        if isinstance(prompt, str):
            with self.tokenizing:
                token_ids: list[int] = self.tokenizer(prompt, split_special_tokens=False)["input_ids"]
            text = prompt
        else:
            token_ids = list(prompt)
            if bad := next((i for i in token_ids if not 0 <= i < len(self.tokenizer)), None):
                raise InvalidRequest(
                    f"Token id {bad} is not in this model's vocabulary of {len(self.tokenizer)}.",
                    param="prompt",
                    code="invalid_value",
                )
            text = self.tokenizer.decode(
                token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        if not token_ids:
            raise InvalidRequest("The prompt is empty.", param="prompt", code="invalid_value")
        ids = torch.tensor([token_ids])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return PreparedPrompt(tuple(token_ids), text=text, continues=True, inputs=inputs)

    def _arguments(self, conversation: Conversation) -> dict[str, Any]:
        """The variables that the template knows; others would be ignored by it, but not by transformers."""
        given = conversation.template_arguments
        for name, value in given.items():
            switch = value is None or isinstance(value, bool | int | float) or name in _WORDS
            if name in _RESERVED or (self.processor is not None and not switch):
                param = f"chat_template_kwargs.{name}"
                raise InvalidRequest(
                    f"Unsupported value for '{param}': a request may not set it.",
                    param=param,
                    code="unsupported_value",
                )
        known = set(re.findall(r"[A-Za-z_]\w*", " ".join(self.templates.values())))
        return {name: value for name, value in given.items() if name in known}

    def _apply(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        arguments: Mapping[str, Any],
    ) -> Mapping[str, torch.Tensor]:
        renderer = self.processor if self.processor is not None else self.tokenizer
        inputs: Mapping[str, torch.Tensor] = renderer.apply_chat_template(
            messages,
            tools=tools,
            chat_template=_template_for(self.templates, tools),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            sanitize_control_tokens=True,
            **arguments,
        )
        return inputs


def load(
    folder: Path,
    model_type: ModelType,
    options: EngineOptions,
    on_phase: OnPhase,
    *,
    cpu_dtype: Callable[[Any], torch.dtype] | None = None,
) -> ChatModel:
    """Load a snapshot onto the device. Raises EngineLoadFailed with what is wrong with it.

    `cpu_dtype` says by the model's configuration in which precision a CPU is to compute; float32 without it.
    """
    disable_progress_bar()
    device, dtype = torch_device.prepare(options)
    multimodal = model_type is ModelType.MULTIMODAL
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        overrides = overrides_of(folder, options.overrides)
    except WrongOverrides as error:
        raise EngineLoadFailed(str(error)) from error
    try:
        on_phase("tokenizer", None)
        config = AutoConfig.from_pretrained(folder, **local)
        processor: Any = AutoProcessor.from_pretrained(folder, **local) if multimodal else None
        tokenizer = processor.tokenizer if multimodal else AutoTokenizer.from_pretrained(folder, **local)
        on_phase("weights", None)
        if cpu_dtype is not None and device.type == "cpu":
            dtype = cpu_dtype(config)
        how = quantization.loading(config, options.quantization, device, dtype)
        auto = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
        model = auto.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, **how.arguments, **local
        ).eval()
        model = model if how.places else model.to(device)
        quantization.check_took(model, options.quantization)
        model, bits = quantization.settled(model, how, dtype)
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, AttributeError) as error:
        raise EngineLoadFailed(
            f"the snapshot in {folder.name!r} cannot be loaded as a {model_type.value} model: {error}"
        ) from error
    # What quantising took on the way would otherwise count as used when memory is shared out.
    torch_device.release()
    log.info("weights take %d MiB, %s", quantization.weight_bytes(model) >> 20, bits or "not quantised")
    on_phase("chat template", None)
    templates = _templates(overrides.chat_template, processor, tokenizer)
    profile = _probe(templates, processor, tokenizer) if templates else None
    text_config = config.get_text_config()
    end_ids = _end_ids(model.generation_config, tokenizer, overrides.end_tokens or ())
    _leave_choosing_to_us(model.generation_config)
    vocabulary_size = int(text_config.vocab_size)
    forms = None
    if can_guide(tokenizer, end_ids):
        size = max(vocabulary_size, len(tokenizer))
        forms = LlForms(tokenizer, vocabulary_size=size, end_ids=end_ids)
    return ChatModel(
        model=model,
        tokenizer=tokenizer,
        processor=processor,
        templates=templates,
        profile=overrides.applied(profile) if profile is not None else None,
        vocabulary=TokenizerVocabulary(tokenizer),
        end_ids=end_ids,
        defaults=SamplingDefaults.of_repository(folder).with_overrides(overrides.sampling),
        context_length=overrides.context_length or _context_length(text_config, tokenizer),
        vocabulary_size=vocabulary_size,
        device=device,
        forms=forms,
        quantization=bits,
    )


def _templates(ordered: str | None, processor: Any, tokenizer: Any) -> dict[str, str]:
    """The templates, writing the beginning-of-text token themselves where the tokenizer would add it.

    Only then can the tokens of the template be told from the same characters in a client's words.
    """
    said = ordered or getattr(processor, "chat_template", None) or tokenizer.chat_template or {}
    named = said if isinstance(said, dict) else {"default": said}
    if "default" not in named and named:
        named = {"default": next(iter(named.values())), **named}
    bos = tokenizer.bos_token
    adds_bos = bos is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]

    def whole(template: str) -> str:
        forgets = processor is not None and adds_bos and "bos_token" not in template and bos not in template
        return "{{- bos_token }}" + template if forgets else template

    return {name: whole(template) for name, template in named.items()}


def _template_for(templates: Mapping[str, str], tools: object) -> str:
    return templates.get("tool_use", templates["default"]) if tools else templates["default"]


def _probe(templates: Mapping[str, str], processor: Any, tokenizer: Any) -> TemplateProfile | None:
    def render(messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
        return str(
            tokenizer.apply_chat_template(
                messages,
                tools=tools,
                chat_template=_template_for(templates, tools),
                add_generation_prompt=True,
                tokenize=False,
            )
        )

    found = probe(render, sees_images=processor is not None)
    return replace(found, reasoning=reasoning_of(templates["default"])) if found is not None else None


def _end_ids(generation_config: Any, tokenizer: Any, ordered: Sequence[str]) -> frozenset[int]:
    """All tokens that end an answer: repositories name some in one file and some in the other."""
    named = generation_config.eos_token_id
    ids = {named} if isinstance(named, int) else set(named or ())
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    known = tokenizer.get_vocab()
    if unknown := [token for token in ordered if token not in known]:
        raise EngineLoadFailed(f"'end_tokens' of model.yaml or MODEL_OVERRIDES: no token {unknown[0]!r}")
    ids.update(known[token] for token in ordered)
    return frozenset(int(i) for i in ids)


def _leave_choosing_to_us(generation_config: Any) -> None:
    """Take out of the repository's settings what TokenSampler and TokenEvents do; constraints stay."""
    for name in ("temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"):
        setattr(generation_config, name, None)
    for name in (
        "repetition_penalty",
        "eos_token_id",
        "stop_strings",
        "max_time",
        "max_length",
        "max_new_tokens",
    ):
        setattr(generation_config, name, None)
    generation_config.do_sample = False
    generation_config.num_beams = 1
    generation_config.num_return_sequences = 1


def _context_length(config: Any, tokenizer: Any) -> int | None:
    length = getattr(config, "max_position_embeddings", None)
    if length is None and tokenizer.model_max_length < 10**9:  # above it stands for "not said"
        length = tokenizer.model_max_length
    return int(length) if length else None
