"""A chat engine without a model: its tokens are bytes and its answers follow from the question.

For tests, and for trying the platform out where no model is at hand. It answers "You said: …", tells of
images that it saw, calls the first tool that the user's words name, and where the answer must have a form it
answers with the plainest thing of that form.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerLoad
from msp_common.errors import InvalidRequest, TooManyRequests, Unavailable
from msp_model_service.chat.conversation import Conversation, Message, Role
from msp_model_service.chat.reasoning import ReasoningFormat
from msp_model_service.chat.tool_formats import HERMES
from msp_model_service.engines.admission import room_for
from msp_model_service.engines.chat import (
    GenerationRequest,
    Likelihood,
    PreparedPrompt,
    PromptToken,
    TokenEvent,
    TokenLogprob,
    Usage,
)
from msp_model_service.engines.fake_forms import FakeForms, FakeGrammar
from msp_model_service.engines.lifecycle import EngineOptions, OnPhase
from msp_model_service.engines.model_facts import ModelFacts
from msp_model_service.engines.token_events import TokenEvents

END = 256
CONTEXT_LENGTH = 8192
Answering = Callable[[Conversation], str]


class ByteVocabulary:
    """256 bytes and one end token."""

    size = 257

    def bytes_of(self, token_id: int) -> bytes:
        """See Vocabulary."""
        return b"<end>" if token_id == END else bytes([token_id])

    def first_bytes_of(self, token_id: int) -> bytes:
        """See Vocabulary."""
        return self.bytes_of(token_id)

    def is_control(self, token_id: int) -> bool:
        """See Vocabulary."""
        return token_id == END


def plain_answer(conversation: Conversation) -> str:
    """What follows from the last message: a tool call, or a report of what was said and shown."""
    last = conversation.messages[-1]
    if last.role is Role.TOOL:
        return f"The tool said: {last.text}"
    named = [name for tool in conversation.tools if (name := str(tool["function"]["name"])) in last.text]
    if named:
        call = json.dumps({"name": named[0], "arguments": {"text": last.text}})
        return f"{HERMES.start}\n{call}\n{HERMES.end}"
    seen = "".join(f" I see {p.image.width} x {p.image.height} pixels." for p in conversation.pictures)
    return f"You said: {last.text}{seen}"


class FakeChatEngine:
    """A ChatEngine. `answer` and `before_token` let a test decide what it says and when."""

    name = "fake"

    def __init__(
        self,
        options: EngineOptions,
        model_type: ModelType,
        *,
        answer: Answering = plain_answer,
        before_token: Callable[[int], Awaitable[None]] | None = None,
        reasoning: ReasoningFormat | None = None,
    ) -> None:
        self._options = options
        self._model_type = model_type
        self._answer = answer
        self._reasoning = reasoning
        self._before_token = before_token
        self._loaded = False
        self._open = 0

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        """See Engine; the folder is not read."""
        on_phase("weights", 1.0)
        self._loaded = True

    def unload(self) -> None:
        """See Engine."""
        self._loaded = False

    def capabilities(self) -> Capabilities:
        """See Engine."""
        return Capabilities(
            paths=list(self._model_type.paths),
            input_modalities=["text", "image"] if self._model_type is ModelType.MULTIMODAL else ["text"],
            context_length=CONTEXT_LENGTH,
            tools=True,
            json_schema=True,
            logprobs=True,
            engine=self.name,
        )

    def model_facts(self) -> ModelFacts:
        """See TellsModelFacts."""
        reasoning = self._reasoning.name if self._reasoning is not None else None
        return ModelFacts(tool_format=HERMES.name, reasoning_format=reasoning, scores_prompts=True)

    def load_now(self) -> WorkerLoad:
        """See Engine."""
        return WorkerLoad(in_flight=self._open, slots=self._options.max_queued)

    def problem(self) -> str | None:
        """See Engine."""
        return None

    async def prepare_chat(self, conversation: Conversation) -> PreparedPrompt:
        """See ChatEngine; the prompt is as long as all words together, in bytes."""
        said = "\n".join(f"{message.role}: {message.text}" for message in conversation.messages)
        form = HERMES if conversation.tools else None
        prompt = PreparedPrompt(tuple(said.encode()), said, tool_format=form, forms=FakeForms())
        return replace(prompt, reasoning=self._reasoning, inputs=self._answer(conversation))

    async def prepare_text(self, prompt: str | Sequence[int]) -> PreparedPrompt:
        """See ChatEngine."""
        if isinstance(prompt, str):
            ids = tuple(prompt.encode())
        elif all(0 <= token_id < END for token_id in prompt):
            ids = tuple(prompt)
        else:
            raise InvalidRequest("A token id is not in 0..255.", param="prompt", code="invalid_value")
        if not ids:
            raise InvalidRequest("The prompt is empty.", param="prompt", code="invalid_value")
        text = bytes(ids).decode("utf-8", "replace")
        answer = self._answer(Conversation((Message(Role.USER),)))
        return PreparedPrompt(ids, text, continues=True, scorable=True, inputs=answer)

    def generate(self, request: GenerationRequest) -> "FakeGeneration":
        """See ChatEngine."""
        if not self._loaded:
            raise Unavailable("The model is not loaded.", retry_after_s=1)
        room = room_for(request, context_length=CONTEXT_LENGTH, vocabulary_size=ByteVocabulary.size)
        if self._open >= self._options.max_queued:
            raise TooManyRequests(f"{self._open} requests are waiting already.", retry_after_s=1)
        self._open += 1
        return FakeGeneration(request, room, self._before_token, self._ended)

    def _ended(self) -> None:
        self._open -= 1


class FakeGeneration:
    """Makes one byte per step, on the event loop."""

    def __init__(
        self,
        request: GenerationRequest,
        room: int,
        before_token: Callable[[int], Awaitable[None]] | None,
        on_end: Callable[[], None],
    ) -> None:
        self._request = request
        self._events = TokenEvents(request, ByteVocabulary(), end_ids={END}, max_tokens=room)
        grammar = request.grammar
        text = grammar.text if isinstance(grammar, FakeGrammar) else str(request.prompt.inputs)
        self._tokens = [*text.encode(), END]
        self._before_token = before_token
        self._on_end = on_end
        self._made = 0
        self._nothing_asked = room == 0
        self._over = False

    def __aiter__(self) -> "FakeGeneration":
        return self

    async def __anext__(self) -> TokenEvent:
        if self._over:
            raise StopAsyncIteration
        if self._before_token is not None and self._made >= len(self._request.begun):
            await self._before_token(self._made)
        await asyncio.sleep(0)
        scores = self._scores() if self._request.score_prompt and not self._made else ()
        if self._nothing_asked:
            await self.aclose()
            usage = Usage(len(self._request.prompt.token_ids), 0)
            return TokenEvent(finish="length", usage=usage, prompt_tokens=scores)
        begun = self._request.begun
        begins = self._made < len(begun)
        token_id = begun[self._made] if begins else self._tokens[self._made % len(self._tokens)]
        self._made += 1
        event = self._events.feed(token_id, self._logprob(token_id))
        if event.finish is not None:
            await self.aclose()
        return replace(event, prompt_tokens=scores)

    async def aclose(self) -> None:
        """See Generation."""
        if not self._over:
            self._over = True
            self._on_end()

    def _scores(self) -> tuple[PromptToken, ...]:
        first, *others = self._request.prompt.token_ids
        scored = [PromptToken(bytes([token_id]), self._logprob(token_id)) for token_id in others]
        return (PromptToken(bytes([first]), None), *scored)

    def _logprob(self, token_id: int) -> TokenLogprob | None:
        count = self._request.top_logprobs
        if count is None:
            return None
        names = ByteVocabulary()
        others = [(token_id + i) % 256 for i in range(count)]
        top = tuple(Likelihood(i, names.bytes_of(i), -0.5 - rank) for rank, i in enumerate(others))
        return TokenLogprob(token_id, names.bytes_of(token_id), -0.5, top)
