"""`POST /v1/chat/completions`."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from msp_common import sse
from msp_common.contracts.workers import Capabilities
from msp_common.errors import InvalidRequest
from msp_model_service.chat.accounting import Account
from msp_model_service.chat.answer_forms import AnswerForm, CallForm, read_form, read_tool_choice
from msp_model_service.chat.choices import ChoiceReader, merged
from msp_model_service.chat.images import ImageLimits
from msp_model_service.chat.reading import read_conversation
from msp_model_service.chat.rendering import AnswerHead, ChunkedChoice, WholeChoice, frame, usage_json
from msp_model_service.chat.wire import ChatRequest
from msp_model_service.engines.chat import ChatEngine, Generation, GenerationRequest, PreparedPrompt
from msp_model_service.engines.grammar import Grammar
from msp_model_service.routes.context import RouteContext
from msp_model_service.routes.generating import respond, sampling_of, start, stops_of, wants_usage

DECODED_AT_ONCE = 4


def router(
    context: RouteContext[ChatEngine],
    *,
    limits: ImageLimits = ImageLimits(),  # noqa: B008 - frozen
) -> APIRouter:
    """The route, for the engine that `context` holds."""
    routes = APIRouter(tags=["chat"])
    # An image may take 160 MB while it is decoded: so many at a time, and no more.
    reading = anyio.CapacityLimiter(DECODED_AT_ONCE)

    @routes.post(
        "/v1/chat/completions",
        summary="Answer a conversation",
        response_class=Response,
        response_description="A `chat.completion`, or a stream of `chat.completion.chunk` events",
    )
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        model = context.check_model(body.model)
        engine = context.engine()
        can = engine.capabilities()
        _refuse_unsupported(body)
        choice = read_tool_choice(body)
        form = await asyncio.to_thread(read_form, body, choice)
        _refuse_form(form, can)
        read = partial(read_conversation, body, can, limits, choice.shown)
        conversation = await to_thread.run_sync(read, limiter=reading)
        prompt = await engine.prepare_chat(conversation)
        count = body.n or 1
        grammars: Sequence[Grammar | None] = [None] * count
        if form is not None and prompt.forms is not None:
            grammars = await prompt.forms.grammars(form, prompt, count)
        requests = _requests(body, prompt, grammars)
        account = Account([prompt], len(requests))
        async with AsyncExitStack() as resources:
            generations = start(engine, requests, account, context.usage, resources)
            held = isinstance(form, CallForm) and form.instead is None and prompt.forms is not None
            answer = _Answer(body, AnswerHead(model.id), prompt, generations, account, held)
            return await respond(request, answer, stream=bool(body.stream), resources=resources)

    return routes


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
        )
        for choice, grammar in enumerate(grammars)
    ]


@dataclass
class _Answer:
    """One request's answer, whole or in frames."""

    body: ChatRequest
    head: AnswerHead
    prompt: PreparedPrompt
    generations: list[Generation]
    account: Account
    calls_held: bool
    """Whether grammars hold the calls to their form."""

    async def whole(self) -> dict[str, Any]:
        """A `chat.completion`."""
        readers = self._readers()
        choices = [WholeChoice(bool(self.body.logprobs)) for _ in self.generations]
        async for index, event in merged(self.generations):
            self.account.note(index, event)
            choices[index].add(readers[index].read(event))
        body = self.head.body("chat.completion", [choice.json(i) for i, choice in enumerate(choices)])
        return {**body, "usage": self._usage(readers)}

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """`chat.completion.chunk` events and `[DONE]`."""
        readers = self._readers()
        choices = [ChunkedChoice(i, bool(self.body.logprobs)) for i in range(len(self.generations))]
        with_usage = wants_usage(self.body)
        no_usage = {"usage": None} if with_usage else {}
        async for index, event in merged(self.generations):
            self.account.note(index, event)
            for choice in choices[index].choices(readers[index].read(event)):
                yield frame({**self.head.body("chat.completion.chunk", [choice]), **no_usage})
        if with_usage:
            body = self.head.body("chat.completion.chunk", [])
            yield frame({**body, "usage": self._usage(readers)})
        yield sse.DONE

    def _readers(self) -> list[ChoiceReader]:
        several = self.body.parallel_tool_calls is not False
        return [
            ChoiceReader(self.prompt, several_calls=several, calls_held=self.calls_held)
            for _ in self.generations
        ]

    def _usage(self, readers: Sequence[ChoiceReader]) -> dict[str, Any]:
        thinks = self.prompt.reasoning is not None
        thought = sum(reader.reasoning_tokens for reader in readers)
        return usage_json(self.account.usage, thought if thinks else None)
