"""`POST /v1/chat/completions`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from msp_common import sse
from msp_common.errors import InvalidRequest
from msp_model_service.chat.accounting import Account
from msp_model_service.chat.choices import ChoiceReader, merged
from msp_model_service.chat.images import ImageLimits
from msp_model_service.chat.reading import read_conversation
from msp_model_service.chat.rendering import AnswerHead, ChunkedChoice, WholeChoice, frame, usage_json
from msp_model_service.chat.wire import ChatRequest
from msp_model_service.engines.chat import ChatEngine, Generation, GenerationRequest, PreparedPrompt
from msp_model_service.routes.context import RouteContext
from msp_model_service.routes.generating import respond, sampling_of, start, stops_of, wants_usage


def router(
    context: RouteContext[ChatEngine],
    *,
    limits: ImageLimits = ImageLimits(),  # noqa: B008 - frozen
) -> APIRouter:
    """The route, for the engine that `context` holds."""
    routes = APIRouter(tags=["chat"])

    @routes.post(
        "/v1/chat/completions",
        summary="Answer a conversation",
        response_class=Response,
        response_description="A `chat.completion`, or a stream of `chat.completion.chunk` events",
    )
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        model = context.check_model(body.model)
        engine = context.engine()
        _refuse_unsupported(body)
        conversation = await asyncio.to_thread(read_conversation, body, engine.capabilities(), limits)
        prompt = await engine.prepare_chat(conversation)
        requests = _requests(body, prompt)
        account = Account([prompt], len(requests))
        async with AsyncExitStack() as resources:
            generations = start(engine, requests, account, context.usage, resources)
            answer = _Answer(body, AnswerHead(model.id), prompt, generations, account)
            return await respond(request, answer, stream=bool(body.stream), resources=resources)

    return routes


def _refuse_unsupported(body: ChatRequest) -> None:
    if body.response_format is not None and body.response_format.type != "text":
        known = body.response_format.type in ("json_object", "json_schema")
        raise InvalidRequest(
            f"Unsupported value for 'response_format': {body.response_format.type!r} is "
            + ("not supported by this engine." if known else "no known format."),
            param="response_format",
            code="unsupported_value",
        )
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


def _requests(body: ChatRequest, prompt: PreparedPrompt) -> list[GenerationRequest]:
    """One per choice."""
    stops = stops_of(body)
    if prompt.tool_format is not None and body.parallel_tool_calls is False:
        stops = (*stops, prompt.tool_format.end)  # the first call is then the last word
    return [
        GenerationRequest(
            prompt=prompt,
            sampling=sampling_of(body, choice),
            max_tokens=body.answer_limit,
            stop=stops,
            top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            ignore_eos=bool(body.ignore_eos),
        )
        for choice in range(body.n or 1)
    ]


@dataclass
class _Answer:
    """One request's answer, whole or in frames."""

    body: ChatRequest
    head: AnswerHead
    prompt: PreparedPrompt
    generations: list[Generation]
    account: Account

    async def whole(self) -> dict[str, Any]:
        """A `chat.completion`."""
        readers = [ChoiceReader(self.prompt.tool_format) for _ in self.generations]
        choices = [WholeChoice(bool(self.body.logprobs)) for _ in self.generations]
        async for index, event in merged(self.generations):
            self.account.note(index, event)
            choices[index].add(readers[index].read(event))
        body = self.head.body("chat.completion", [choice.json(i) for i, choice in enumerate(choices)])
        return {**body, "usage": usage_json(self.account.usage)}

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """`chat.completion.chunk` events and `[DONE]`."""
        readers = [ChoiceReader(self.prompt.tool_format) for _ in self.generations]
        choices = [ChunkedChoice(i, bool(self.body.logprobs)) for i in range(len(self.generations))]
        with_usage = wants_usage(self.body)
        no_usage = {"usage": None} if with_usage else {}
        async for index, event in merged(self.generations):
            self.account.note(index, event)
            for choice in choices[index].choices(readers[index].read(event)):
                yield frame({**self.head.body("chat.completion.chunk", [choice]), **no_usage})
        if with_usage:
            usage = usage_json(self.account.usage)
            yield frame({**self.head.body("chat.completion.chunk", []), "usage": usage})
        yield sse.DONE
