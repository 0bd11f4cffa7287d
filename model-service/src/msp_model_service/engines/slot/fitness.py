"""Which models this engine can serve, as far as can be told without trying. The self-test tries."""

from typing import Any

from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from msp_model_service.engines.lifecycle import EngineLoadFailed
from msp_model_service.engines.slot import row_attention
from msp_model_service.engines.slot.masks import FULL, SLIDING

_CONSTRAINTS = (
    *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "guidance_scale"),
    *("forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty"),
    *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "encoder_repetition_penalty"),
    *("min_length", "min_new_tokens", "watermarking_config", "remove_invalid_values"),
)
"""Settings of a repository that `generate` obeys by logits processors of its own."""


class SlotUnfit(EngineLoadFailed):
    """This engine cannot serve the model; another one can."""


def obstacle(config: Any) -> str | None:
    """What in a model's configuration makes it unfit; None if nothing does."""
    text = config.get_text_config()
    if getattr(config, "is_encoder_decoder", False):
        return "it has an encoder, and rows only hold a decoder's keys and values"
    if getattr(text, "alibi", False) or getattr(text, "position_embedding_type", None) == "alibi":
        return "its positions are ALiBi biases, which explicit masks cannot carry"
    if getattr(text, "model_type", "") in ("bloom", "mpt"):
        return "its positions are ALiBi biases, which explicit masks cannot carry"
    for form in ("rope_parameters", "rope_scaling"):
        if "mrope_section" in str(getattr(text, form, None)):
            return "its positions have several dimensions (mrope)"
    if strange := sorted(_kinds(text) - {FULL, SLIDING}):
        return f"it has layers of the kind {', '.join(strange)}, whose memory is no row of keys and values"
    return None


def _kinds(text: Any) -> set[str]:
    """Kinds of layers; those of transformers' own cache for this model are told by their class."""
    kinds = set(getattr(text, "layer_types", None) or ())
    try:
        layers = DynamicCache(config=text).layers
    except Exception:  # noqa: BLE001 - configurations without the usual fields: the model is none that we know
        return kinds | {"unknown"}
    return kinds | {
        type(layer).__name__
        for layer in layers
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer)
    }


def model_obstacle(model: Any) -> str | None:
    """What in a loaded model makes it unfit; None if nothing does."""
    if getattr(model, "_is_stateful", False):
        return "it keeps a state of its own from token to token"
    attention = model.config.get_text_config()._attn_implementation
    if attention not in ("sdpa", "eager", row_attention.NAME):
        return f"its attention is {attention}, which takes no masks of ours"
    given = model.generation_config
    set_here = [name for name in _CONSTRAINTS if getattr(given, name, None) not in (None, 0, 1.0, [], False)]
    if set_here:
        return f"its generation_config.json demands {', '.join(set_here)}"
    return None
