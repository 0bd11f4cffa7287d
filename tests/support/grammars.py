"""Grammars of forms over the sample's tokenizer, and what they let through."""

from pathlib import Path
from typing import Any

import torch

from msp_model_service.chat.answer_forms import AnswerForm, JsonForm
from msp_model_service.chat.reasoning import ReasoningFormat
from msp_model_service.chat.tool_formats import ToolFormat
from msp_model_service.engines.chat import PreparedPrompt
from msp_model_service.engines.llguidance_grammar import LlForms, LlGrammar

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "chat"
SIZE = 1461
END = 1456


def json_form(schema: Any) -> JsonForm:
    return JsonForm(schema, "here")


async def grammar(
    forms: LlForms,
    form: AnswerForm,
    tool_format: ToolFormat | None = None,
    reasoning: ReasoningFormat | None = None,
    thinks: bool = False,
) -> LlGrammar:
    prompt = PreparedPrompt((1,), tool_format=tool_format, reasoning=reasoning, thinks=thinks)
    (made,) = await forms.grammars(form, prompt, 1)
    return made


def allowed(one: LlGrammar, size: int = SIZE) -> list[int]:
    logits = torch.zeros(size)
    one.mask(logits)
    return [i for i, value in enumerate(logits.tolist()) if value == 0]


def fits(one: LlGrammar, tokenizer: Any, text: str, size: int = SIZE) -> bool:
    """Whether the grammar lets through this whole text, and then its end."""
    for token_id in tokenizer.encode(text, add_special_tokens=False):
        if token_id not in allowed(one, size):
            return False
        one.accept(token_id)
    return END in allowed(one, size)
