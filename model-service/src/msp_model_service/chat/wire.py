"""Body of `POST /v1/chat/completions`.

Every parameter may be null, unknown ones are accepted. Where the wire allows several spellings, one is made
of them before validation, so that an error's path is the path in the client's own body.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema


class WireModel(BaseModel):
    """Accepts fields it does not know."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)


def _as_parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content


def _as_image_url(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def well_formed(text: str) -> str:
    """The text with halves of surrogate pairs, which clients make that cut an emoji in two, as U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


Words = Annotated[str, AfterValidator(well_formed)]


StopSequence = Annotated[Words, Field(max_length=1000)]


class WireImageUrl(WireModel):
    """An image as a data URI."""

    url: str
    detail: str | None = None


class WirePart(WireModel):
    """One part of a message's content; which fields matter depends on `type`."""

    type: str
    text: Words | None = None
    refusal: Words | None = None
    image_url: Annotated[WireImageUrl | None, BeforeValidator(_as_image_url)] = None


class WireFunctionCall(WireModel):
    """What an assistant called; `arguments` is JSON as a string."""

    name: Words
    arguments: Words = ""


class WireToolCall(WireModel):
    """One tool call of an earlier answer."""

    id: str
    type: str | None = None
    function: WireFunctionCall


Content = Annotated[
    list[WirePart] | None,
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


class WireMessage(WireModel):
    """One message of the conversation."""

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: Content = None
    name: Words | None = None
    refusal: Words | None = None
    reasoning_content: Words | None = None
    """Not OpenAI's: what a model that thinks had thought in this turn."""
    tool_calls: list[WireToolCall] | None = None
    tool_call_id: str | None = None


class WireFunction(WireModel):
    """What a tool does, and a JSON schema of its arguments."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1, max_length=256)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class WireTool(WireModel):
    """A tool that the model may call."""

    type: str
    function: WireFunction | None = None


class StreamOptions(WireModel):
    """How to stream."""

    include_usage: bool | None = None
    """One more event before the end, with the usage and no choices."""


class NamedSchema(WireModel):
    """A JSON schema for the answer."""

    name: str = Field(min_length=1, max_length=64)
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    """Absent: any JSON object."""
    strict: bool | None = None
    """Makes no difference: a schema is always held to, and what of it cannot be held to is refused."""


class ResponseFormat(WireModel):
    """The form of the answer."""

    type: str
    """`text`, `json_object` or `json_schema`."""
    json_schema: NamedSchema | None = None


class GenerationFields(WireModel):
    """What chat and plain completions have in common."""

    model: str | None = None
    """Absent, empty or null: the model that this worker serves."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=16)
    """How many answers; at most 16."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """0 is greedy. Absent: as the model's repository says, else 1."""
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    """Not OpenAI's: the k likeliest tokens only; 0 or -1 for all."""
    min_p: float | None = Field(default=None, ge=0, le=1)
    """Not OpenAI's: only tokens at least this likely, relative to the likeliest."""
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    """Not OpenAI's: above 1, tokens that occurred become less likely."""
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = None
    seed: int | None = None
    stop: Annotated[
        Annotated[list[StopSequence], Field(max_length=4)] | None,
        BeforeValidator(_as_list),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "maxItems": 4}, {"type": "null"}]}),
    ] = None
    ignore_eos: bool | None = None
    """Not OpenAI's: go on to max_tokens; for load tests."""


class Continued(WireModel):
    """An answer that another replica began, and what of it the client has."""

    id: str = Field(min_length=1, max_length=128)
    created: int = Field(ge=0)
    token_ids: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=1 << 20)
    """All that the stream's comments told."""
    content: int = Field(default=0, ge=0)
    """Characters of content, or of text."""
    reasoning_content: int = Field(default=0, ge=0)
    """Characters of thinking."""
    finished: bool = False
    """Whether the client knows why the answer ended."""


class ContinuableFields(GenerationFields):
    """The same, of what can be streamed so that another replica could go on with it."""

    continued: Continued | None = Field(default=None, alias="continue")
    """Not OpenAI's: go on with a stream that another replica began, instead of from the start."""


class ChatRequest(ContinuableFields):
    """A conversation to answer."""

    messages: list[WireMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    """The older name of max_completion_tokens."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[WireTool] | None = None
    tool_choice: Any = None
    """`none`, `auto`, `required`, a function by its name, or some to choose from (`allowed_tools`)."""
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    """Not OpenAI's: variables for the chat template, `enable_thinking` for instance."""
    functions: list[Any] | None = None
    """OpenAI's form before `tools`; refused."""
    modalities: list[str] | None = None
    reasoning_effort: str | None = None
    """Handed to chat templates that know it; `none` turns thinking off where the template can."""

    @property
    def answer_limit(self) -> int | None:
        """The stricter of the two names of one limit."""
        limits = (self.max_tokens, self.max_completion_tokens)
        return min((limit for limit in limits if limit is not None), default=None)


class CompletionRequest(ContinuableFields):
    """A text to go on with."""

    prompt: Any
    """A string, a list of strings, a list of token ids, or a list of such lists."""
    max_tokens: int | None = Field(default=None, ge=0)
    """16 when absent; 0 with `echo` only."""
    logprobs: int | None = Field(default=None, ge=0, le=5)
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None
