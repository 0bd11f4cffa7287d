"""`POST /v1/chat/completions`."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from msp_common import sse
from msp_model_service.chat import continuing
from msp_model_service.chat.continuing import Passage
from msp_model_service.chat.rendering import AnswerHead, ChunkedChoice, WholeChoice, frame, usage_json
from msp_model_service.chat.wire import ChatRequest
from msp_model_service.routes.conversing import Conversed, Conversing
from msp_model_service.routes.generating import respond, wants_usage


def router(conversing: Conversing) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["chat"])

    @routes.post(
        "/v1/chat/completions",
        summary="Answer a conversation",
        response_class=Response,
        response_description="A `chat.completion`, or a stream of `chat.completion.chunk` events",
    )
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        model = conversing.model(body.model)
        async with AsyncExitStack() as resources:
            conversed = await conversing.begin(body, resources)
            passage = Passage.of(body, request.headers.get(continuing.ASKS))
            answer = _Answer(body, continuing.head_of(body, model.id), conversed, passage)
            return await respond(
                request,
                answer,
                stream=bool(body.stream),
                resources=resources,
                fields=continuing.fields_of(body),
            )

    return routes


@dataclass
class _Answer:
    """One request's answer, whole or in frames."""

    body: ChatRequest
    head: AnswerHead
    conversed: Conversed
    passage: Passage

    async def whole(self) -> dict[str, Any]:
        """A `chat.completion`."""
        choices = [WholeChoice(bool(self.body.logprobs)) for _ in self.conversed.generations]
        async for index, delta in self.conversed.deltas():
            choices[index].add(delta)
        body = self.head.body("chat.completion", [choice.json(i) for i, choice in enumerate(choices)])
        return {**body, "usage": self._usage()}

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """`chat.completion.chunk` events and `[DONE]`."""
        count = len(self.conversed.generations)
        opened = self.body.continued is not None
        choices = [ChunkedChoice(i, bool(self.body.logprobs), opened) for i in range(count)]
        with_usage = wants_usage(self.body)
        no_usage = {"usage": None} if with_usage else {}
        async for index, delta in self.conversed.deltas():
            for choice in choices[index].choices(self.passage.news_of(delta)):
                event = frame({**self.head.body("chat.completion.chunk", [choice]), **no_usage})
                yield self.passage.marked(event)
        if with_usage:
            body = self.head.body("chat.completion.chunk", [])
            yield frame({**body, "usage": self._usage()})
        yield sse.DONE

    def _usage(self) -> dict[str, Any]:
        return usage_json(self.conversed.account.usage, self.conversed.reasoning_tokens)
