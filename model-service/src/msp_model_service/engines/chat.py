"""What a chat engine can be asked, and in which terms. No engine and no heavy import lives here.

A route prepares a prompt, then starts one generation per choice and reads its events. An engine that runs one
request after another, one that batches them and one that is an external server all fit: events carry text, so
nobody above needs the engine's tokenizer, and usage comes with the last event from whoever counted it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from msp_model_service.chat.answer_forms import AnswerForm
from msp_model_service.chat.conversation import Conversation
from msp_model_service.chat.reasoning import ReasoningFormat
from msp_model_service.chat.tool_formats import ToolFormat
from msp_model_service.engines.grammar import Grammar
from msp_model_service.engines.lifecycle import Engine

FinishReason = Literal["stop", "length"]
"""Why an engine stopped: the model or a stop sequence ended the answer, or its room ran out."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. None means the model's own default, then OpenAI's."""

    temperature: float | None = None
    """0 takes the likeliest token every time."""
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)


class Forms(Protocol):
    """Makes the grammars that hold a model's answers to a form."""

    async def grammars(self, form: AnswerForm, prompt: "PreparedPrompt", count: int) -> Sequence[Grammar]:
        """One for each of `count` answers to `prompt`. Does its work in threads of its own.

        Raises InvalidRequest, naming the place within a schema, or TooManyRequests.
        """


@dataclass(frozen=True)
class PreparedPrompt:
    """A prompt in the engine's terms. Made by the engine that will read it."""

    token_ids: tuple[int, ...]
    """What the model reads, placeholders of images included. Empty where an external server counts."""
    text: str = ""
    """The prompt as text: what `echo` repeats."""
    continues: bool = False
    """Whether the answer goes on in the prompt's sentence (completions) or is a text of its own (chat)."""
    tool_format: ToolFormat | None = None
    """How this model writes tool calls; null when it was shown no tools."""
    reasoning: ReasoningFormat | None = None
    """How this model marks its thinking; null where it does not think."""
    thinks: bool = False
    """Whether the prompt ends within the thinking, so that the answer begins in it."""
    sampling: Sampling = Sampling(temperature=1.0, top_p=1.0)
    """What holds where a request for it says nothing; told, and not read again."""
    forms: Forms | None = None
    """Holds answers to a form; null where this engine cannot, or sees to it by itself."""
    scorable: bool = False
    """Whether log probabilities of the prompt's own tokens can be asked for."""
    inputs: object = None
    """What else the engine needs, images for instance; nobody else looks inside."""


@dataclass(frozen=True)
class GenerationRequest:
    """One choice to generate."""

    prompt: PreparedPrompt
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    """None: whatever the context has left."""
    stop: tuple[str, ...] = ()
    """Sequences that end the answer and are not part of it."""
    top_logprobs: int | None = None
    """How many alternatives to report per token; None reports no log probabilities at all."""
    ignore_eos: bool = False
    """Go on to `max_tokens` whatever the model says; for load tests."""
    grammar: Grammar | None = None
    """What the answer is held to; for this one answer only."""
    begun: tuple[int, ...] = ()
    """Tokens of this answer that another replica made. They are told as if they had been made here, and count
    as such: for `max_tokens`, stop sequences, penalties, the grammar and the usage. Then it goes on."""
    score_prompt: bool = False
    """Report log probabilities of the prompt's tokens too, in the first event. `max_tokens` may then be 0."""


@dataclass(frozen=True)
class Likelihood:
    """One token that could have been chosen. `logprob` comes from the model's raw logits."""

    token_id: int
    bytes: bytes
    logprob: float


@dataclass(frozen=True)
class TokenLogprob(Likelihood):
    """A token that was chosen, and the likeliest ones in its place."""

    top: tuple[Likelihood, ...] = ()


@dataclass(frozen=True)
class PromptToken:
    """A token of the prompt."""

    bytes: bytes
    logprob: TokenLogprob | None
    """Given the tokens before it; null for the first, which none are before."""


@dataclass(frozen=True)
class Usage:
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = field(default=None, compare=False)
    """Of the prompt's tokens those that need not be read again; null where the engine does not tell."""


@dataclass(frozen=True)
class TokenEvent:
    """One step of a generation. The texts of all its events, joined, are the answer."""

    text: str = ""
    """Whole characters only; empty while a character or a possible stop sequence is incomplete."""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens whose text is out; held back together with it."""
    finish: FinishReason | None = None
    """Set on the last event only."""
    usage: Usage | None = None
    """Set on the last event only."""
    prompt_tokens: tuple[PromptToken, ...] = ()
    """All of the prompt's where `score_prompt` asks for it, in the first event."""


class Generation(Protocol):
    """A generation that has been accepted. Ends after the event with `finish`, or raises an ApiError."""

    def __aiter__(self) -> AsyncIterator[TokenEvent]: ...

    async def __anext__(self) -> TokenEvent: ...

    async def aclose(self) -> None:
        """Give it up: the engine stops within one step. Harmless when it has ended; always call it."""


class ChatEngine(Engine, Protocol):
    """One loaded language model, which may see images. Its methods are called on the event loop."""

    async def prepare_chat(self, conversation: Conversation) -> PreparedPrompt:
        """Apply the chat template. Raises InvalidRequest where the model has no place for what was sent."""

    async def prepare_text(self, prompt: str | Sequence[int]) -> PreparedPrompt:
        """Take a plain prompt, or token ids of this model's vocabulary. Raises InvalidRequest."""

    def generate(self, request: GenerationRequest) -> Generation:
        """Accept one generation, at once and without waiting for its turn.

        Raises ContextTooLong, InvalidRequest (`logit_bias`), TooManyRequests or Unavailable. What fails later
        is raised by the iteration.
        """
