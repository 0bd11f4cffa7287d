"""Body of `POST /v1/responses`.

As in chat completions every parameter may be null and unknown ones are accepted; several spellings of one
thing become one before validation.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from msp_model_service.chat.wire import GenerationFields, WireModel, Words
from msp_model_service.responses.refusals import ITEM_TYPES


def _as_parts(content: Any) -> Any:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


def _as_items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class ItemPart(WireModel):
    """One part of an item's content; which fields matter depends on `type`."""

    type: str
    """`input_text`, `output_text`, `input_image`, `refusal` or `reasoning_text`."""
    text: Words | None = None
    refusal: Words | None = None
    image_url: str | None = None
    """A data URI."""
    file_id: str | None = None
    """Refused: no files are kept here."""


Parts = Annotated[
    list[ItemPart] | None,
    BeforeValidator(_as_parts),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "object", "required": ["type"]}},
                {"type": "null"},
            ]
        }
    ),
]


class InputItem(WireModel):
    """One item of the conversation so far; which fields matter depends on `type`."""

    type: str = "message"
    """`message`, `function_call`, `function_call_output` or `reasoning`."""
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: Parts = None
    call_id: str | None = None
    name: Words | None = None
    arguments: Words | None = None
    """Of a call: JSON as a string."""
    output: Parts = None
    """Of a function that was called."""

    @model_validator(mode="before")
    @classmethod
    def _known_fields_only_of_known_types(cls, value: Any) -> Any:
        """Items of other types are refused by their type, not for the shape of a field that they share."""
        if not isinstance(value, dict):
            return value
        given = value.get("type")
        if given is None:
            return {**value, "type": "item_reference" if "role" not in value and "id" in value else "message"}
        return value if given in ITEM_TYPES else {"type": given}


class FunctionTool(WireModel):
    """A function that the model may call, and a JSON schema of its arguments."""

    type: str
    """`function`; the tools that OpenAI runs itself are refused."""
    name: str | None = Field(default=None, min_length=1, max_length=256)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    """Whether calls are held to the schema. Absent: no."""


class TextFormat(WireModel):
    """The form of the answer."""

    type: str
    """`text`, `json_object` or `json_schema`."""
    name: str | None = Field(default=None, min_length=1, max_length=64)
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    """Absent: any JSON object."""
    strict: bool | None = None
    """Makes no difference: a schema is always held to, and what of it cannot be held to is refused."""


class TextOptions(WireModel):
    """How the answer's text is to be."""

    format: TextFormat | None = None


class ReasoningOptions(WireModel):
    """How the model is to think. Its thinking is told whole, so there are no summaries of it."""

    effort: str | None = None
    """Handed to chat templates that know it; `none` turns thinking off where the template can."""


class ResponsesRequest(GenerationFields):
    """A conversation to answer, as items."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)

    input: Annotated[
        Annotated[list[InputItem], Field(min_length=1)],
        BeforeValidator(_as_items),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}, "minItems": 1}]}
        ),
    ]
    """A string, or messages, calls of functions, their outputs and earlier reasoning."""
    n: int | None = Field(default=None, ge=1, le=1)
    """There is one answer."""
    instructions: Words | None = None
    """A system message before all others."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    """Of thinking and answer together. Absent: what the context has left."""
    tools: list[FunctionTool] | None = None
    tool_choice: Any = None
    """`none`, `auto`, `required`, a function by its name, or some to choose from (`allowed_tools`)."""
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    include: list[str] | None = None
    """`message.output_text.logprobs` is honoured; the others concern what is not here."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Not OpenAI's: variables for the chat template, `enable_thinking` for instance."""
    metadata: dict[str, str] | None = None
    """Told back."""
    user: str | None = None
    """Told back."""
    safety_identifier: str | None = None
    """Told back."""
    prompt_cache_key: str | None = None
    """Told back."""
    max_tool_calls: int | None = None
    """Told back: it limits the tools that OpenAI runs itself."""
    store: bool | None = None
    """Accepted, and answered with false: nothing is stored."""
    truncation: str | None = None
    """`disabled`; a conversation that does not fit is refused."""
    background: bool | None = None
    """Refused when true."""
    previous_response_id: str | None = None
    """Refused: nothing is stored. Send the conversation in `input`."""
    conversation: Any = None
    """Refused."""
    prompt: Any = None
    """Refused."""

    @property
    def wants_logprobs(self) -> bool:
        """Whether log probabilities are asked for."""
        return bool(self.top_logprobs) or "message.output_text.logprobs" in (self.include or ())
