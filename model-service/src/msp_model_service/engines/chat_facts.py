"""What there is to tell of a loaded language model."""

import re

from msp_model_service.engines.chat_model import ChatModel
from msp_model_service.engines.model_facts import ModelFacts

_EFFORT = re.compile(r"\b(reasoning_effort|enable_thinking)\b")


def of(loaded: ChatModel, *, scores_prompts: bool) -> ModelFacts:
    """Its facts; `scores_prompts` says what its engine can."""
    profile = loaded.profile
    calls = profile.tool_format if profile is not None else None
    reasoning = profile.reasoning if profile is not None else None
    return ModelFacts(
        architecture=type(loaded.model).__name__,
        dtype=str(loaded.model.dtype).removeprefix("torch."),
        tool_format=calls.name if calls is not None else None,
        reasoning_format=reasoning.name if reasoning is not None else None,
        takes_effort=any(_EFFORT.search(template) for template in loaded.templates.values()),
        scores_prompts=scores_prompts,
    )
