"""`POST /v1/responses`, without state: a response is told to who asked for it, and kept nowhere."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from msp_common import sse
from msp_common.errors import ApiError, NotFound
from msp_model_service.responses.body import ResponseHead, usage_json
from msp_model_service.responses.chat_request import as_chat
from msp_model_service.responses.events import Numbered
from msp_model_service.responses.output import Output
from msp_model_service.responses.refusals import LOOKED_AT, refuse_unsupported
from msp_model_service.responses.wire import ResponsesRequest
from msp_model_service.routes.conversing import Conversed, Conversing
from msp_model_service.routes.generating import respond

PATH = "/v1/responses"


def router(conversing: Conversing) -> APIRouter:
    """The route, and what is said of responses that somebody believes to be kept."""
    routes = APIRouter(tags=["chat"])

    @routes.post(
        PATH,
        summary="Answer a conversation of items",
        response_class=Response,
        response_description="A `response`, or a stream of its events",
    )
    async def responses(body: ResponsesRequest, request: Request) -> Response:
        model = conversing.model(body.model)
        refuse_unsupported(body.model_dump(include=set(LOOKED_AT)))
        chat = as_chat(body)
        async with AsyncExitStack() as resources:
            try:
                conversed = await conversing.begin(chat.body, resources)
            except ApiError as error:
                raise chat.places.in_our_terms(error) from error
            head = ResponseHead(model.id, body, conversed.prompt.sampling)
            answer = _Answer(head, conversed, Output(with_logprobs=body.wants_logprobs))
            return await respond(
                request,
                answer,
                stream=bool(body.stream),
                resources=resources,
                failed=answer.failed,
            )

    @routes.api_route(PATH + "/{rest:path}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
    async def kept_responses(rest: str) -> None:
        raise NotFound(f"There is no {PATH}/{rest[:200]} here: responses are not stored.")

    return routes


@dataclass
class _Answer:
    """One request's answer, whole or in frames."""

    head: ResponseHead
    conversed: Conversed
    output: Output
    numbered: Numbered = field(default_factory=Numbered)

    async def whole(self) -> dict[str, Any]:
        """A `response`."""
        async for _ in self._events():
            pass
        return self._ended()

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Its events in order, and `[DONE]`."""
        begun = False
        async with aclosing(self._events()) as events:
            async for several in events:
                if not begun:
                    # Only now: what fails before the model has said anything is an answer with a status.
                    begun = True
                    yield self._state("response.created", self.head.begun())
                    yield self._state("response.in_progress", self.head.begun())
                for event in several:
                    yield self.numbered.frame(event)
        ended = self._ended()
        yield self._state(f"response.{ended['status']}", ended)
        yield sse.DONE

    def failed(self, error: ApiError) -> bytes:
        """The last event of a stream that breaks off."""
        return self._state("response.failed", self.head.failed(error, self.output.json()))

    async def _events(self) -> AsyncGenerator[list[dict[str, Any]], None]:
        async for _, delta in self.conversed.deltas():
            yield self.output.read(delta)

    def _ended(self) -> dict[str, Any]:
        usage = usage_json(self.conversed.account.usage, self.conversed.reasoning_tokens or 0)
        return self.head.ended(self.output.finish or "stop", self.output.json(), usage)

    def _state(self, type: str, response: dict[str, Any]) -> bytes:
        return self.numbered.frame({"type": type, "response": response})
