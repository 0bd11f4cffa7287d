"""From a chat request to generations that run: what all routes that answer conversations have in common."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import anyio
from anyio import to_thread

from msp_common.contracts.workers import Capabilities, ServedModel
from msp_common.errors import InvalidRequest
from msp_model_service.chat import continuing
from msp_model_service.chat.accounting import Account
from msp_model_service.chat.answer_forms import AnswerForm, CallForm, read_form, read_tool_choice
from msp_model_service.chat.choices import ChoiceReader, Delta, merged
from msp_model_service.chat.images import ImageLimits
from msp_model_service.chat.reading import read_conversation
from msp_model_service.chat.wire import ChatRequest
from msp_model_service.engines.chat import ChatEngine, Generation, GenerationRequest, PreparedPrompt
from msp_model_service.engines.grammar import Grammar
from msp_model_service.routes.context import RouteContext
from msp_model_service.routes.generating import sampling_of, start, stops_of

DECODED_AT_ONCE = 4


@dataclass
class Conversed:
    """Answers to one conversation, which are being made."""

    prompt: PreparedPrompt
    generations: list[Generation]
    account: Account
    readers: list[ChoiceReader]

    async def deltas(self) -> AsyncIterator[tuple[int, Delta]]:
        """What is said, as it comes, each with its choice's index; counted on the way."""
        async for index, event in merged(self.generations):
            self.account.note(index, event)
            yield index, self.readers[index].read(event)

    @property
    def reasoning_tokens(self) -> int | None:
        """Tokens of thinking so far; null of a model that does not think."""
        if self.prompt.reasoning is None:
            return None
        return sum(reader.reasoning_tokens for reader in self.readers)


class Conversing:
    """Reads conversations and starts what answers them."""

    def __init__(
        self,
        context: RouteContext[ChatEngine],
        limits: ImageLimits = ImageLimits(),  # noqa: B008 - frozen
    ) -> None:
        self._context = context
        self._limits = limits
        # An image may take 160 MB while it is decoded: so many at a time, and no more.
        self._reading = anyio.CapacityLimiter(DECODED_AT_ONCE)

    def model(self, name: str | None) -> ServedModel:
        """The served model, if `name` means it. Raises ModelNotFound, or Unavailable until it is loaded."""
        model = self._context.check_model(name)
        self._context.engine()
        return model

    async def begin(self, body: ChatRequest, resources: AsyncExitStack) -> Conversed:
        """Start all choices of a request; `resources` gives them up. Raises ApiError for what cannot be."""
        engine = self._context.engine()
        can = engine.capabilities()
        _refuse_unsupported(body)
        continuing.check(body)
        choice = read_tool_choice(body)
        form = await asyncio.to_thread(read_form, body, choice)
        _refuse_form(form, can)
        read = partial(read_conversation, body, can, self._limits, choice.shown)
        conversation = await to_thread.run_sync(read, limiter=self._reading)
        prompt = await engine.prepare_chat(conversation)
        count = body.n or 1
        grammars: Sequence[Grammar | None] = [None] * count
        if form is not None and prompt.forms is not None:
            grammars = await prompt.forms.grammars(form, prompt, count)
        requests = _requests(body, prompt, grammars)
        account = Account([prompt], len(requests))
        generations = start(engine, requests, account, self._context.usage, resources)
        held = isinstance(form, CallForm) and form.instead is None and prompt.forms is not None
        several = body.parallel_tool_calls is not False
        readers = [ChoiceReader(prompt, several_calls=several, calls_held=held) for _ in generations]
        return Conversed(prompt, generations, account, readers)


def _refuse_form(form: AnswerForm | None, can: Capabilities) -> None:
    if isinstance(form, CallForm) and not can.tools:
        raise InvalidRequest(
            "Unsupported value for 'tools': this model's chat template has no place for tools.",
            param="tools",
            code="unsupported_value",
        )
    if form is not None and not can.json_schema:
        if isinstance(form, CallForm) and form.free:
            param, reason = "tools", "hold calls to their schemas; leave 'strict' out"
        elif isinstance(form, CallForm) and form.instead is None:
            param, reason = "tool_choice", "force a tool call; use 'auto' or 'none'"
        else:
            param, reason = "response_format", "hold answers to a form; use 'text'"
        raise InvalidRequest(
            f"Unsupported value for '{param}': this engine cannot {reason}.",
            param=param,
            code="unsupported_value",
        )


def _refuse_unsupported(body: ChatRequest) -> None:
    if body.modalities and set(body.modalities) != {"text"}:
        raise InvalidRequest(
            "Unsupported value for 'modalities': this model answers in text only.",
            param="modalities",
            code="unsupported_value",
        )
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest(
            "Invalid value for 'top_logprobs': it needs 'logprobs' to be true.",
            param="top_logprobs",
            code="invalid_value",
        )


def _requests(
    body: ChatRequest, prompt: PreparedPrompt, grammars: Sequence[Grammar | None]
) -> list[GenerationRequest]:
    """One per choice."""
    stops = stops_of(body)
    end = prompt.tool_format.end if prompt.tool_format is not None else ""
    if end and body.parallel_tool_calls is False and not any(grammars):
        stops = (*stops, end)  # the first call is then the last word
    return [
        GenerationRequest(
            prompt=prompt,
            sampling=sampling_of(body, choice),
            max_tokens=body.answer_limit,
            stop=stops,
            top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            ignore_eos=bool(body.ignore_eos) and grammar is None,
            grammar=grammar,
            begun=continuing.begun(body),
        )
        for choice, grammar in enumerate(grammars)
    ]
