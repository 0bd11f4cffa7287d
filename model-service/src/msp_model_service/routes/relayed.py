"""The routes of a worker whose engine is a server of its own: requests and answers pass through."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from msp_common import sse
from msp_common.contracts.model_type import ModelType
from msp_common.errors import InvalidRequest, NotFound, UpstreamFailed
from msp_model_service.engines.external.answer_events import AnswerEvents, Passed, events_of
from msp_model_service.engines.external.answer_fields import Usage, read_answer
from msp_model_service.engines.external.inline_media import check_media
from msp_model_service.engines.external.request_body import read_body
from msp_model_service.engines.external.request_form import read_form
from msp_model_service.engines.wire_engine import WireAnswer, WireEngine, WireRequest
from msp_model_service.request_record import CURRENT
from msp_model_service.responses.relayed_body import check_responses_body
from msp_model_service.routes.context import RouteContext
from msp_model_service.routes.event_streams import event_stream
from msp_model_service.routes.generating import with_errors_told
from msp_model_service.routes.leaving import CLIENT_LEFT, unless_client_leaves

MAX_ANSWER_BYTES = 512 * 1024 * 1024
"""Of an answer that is read whole; 2048 long embeddings as text are a tenth of it."""

_JSON_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "additionalProperties": True}}},
    }
}

_FORM_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "additionalProperties": True,
                }
            }
        },
    }
}
_TRANSCRIPTS = ("text/plain", "text/vtt", "application/x-subrip")
"""What a transcript is when it was not asked for as JSON."""


def router(context: RouteContext[WireEngine], model_type: ModelType) -> APIRouter:
    """One route for each of the type's paths. What a request may say is the server's business."""
    routes = APIRouter(tags=["relayed"])
    for path in model_type.paths:
        form = model_type is ModelType.TRANSCRIPTION
        routes.add_api_route(
            path,
            _handler(context, path, _asked_by_form if form else _asked_by_json),
            methods=["POST"],
            summary="Answered by the external server that runs the model",
            response_class=Response,
            openapi_extra=_FORM_BODY if form else _JSON_BODY,
        )
    return routes


@dataclass(frozen=True)
class _Asked:
    """A request that was read."""

    model: str | None
    for_server: Callable[[str], tuple[bytes, str]]
    """With the server's name for the model: the body, and its content type."""
    wants_usage: bool = True


async def _asked_by_json(request: Request) -> _Asked:
    body = read_body(await request.body())
    # Others than those have no messages; embeddings of many token ids would be slow to look through.
    if body.has_messages or request.url.path.endswith("/chat/completions"):
        check_media(body.raw)
    if request.url.path.endswith("/responses"):
        check_responses_body(body.raw)
    # Only of chat and completions a stream has a usage that can be asked for.
    counted = request.url.path.endswith("/completions")
    return _Asked(
        body.model,
        lambda name: (body.for_server(name, counted=counted), "application/json"),
        body.wants_usage,
    )


async def _asked_by_form(request: Request) -> _Asked:
    try:
        async with request.form(max_files=1, max_fields=64) as form:
            body = await read_form(form)
    except HTTPException as error:
        raise InvalidRequest(f"The form cannot be read: {error.detail}", param="file") from error
    return _Asked(body.model, body.for_server)


def _handler(
    context: RouteContext[WireEngine], path: str, read: Callable[[Request], Awaitable[_Asked]]
) -> Callable[[Request], Awaitable[Response]]:
    async def relay(request: Request) -> Response:
        try:
            asked = await read(request)
            model = context.check_model(asked.model)
            engine = context.engine()
            if path not in engine.capabilities().paths:
                raise NotFound(f"There is no {path} here: the model's own server has none.")
            names = _Names(engine.model_name, model.id)
            body, content_type = asked.for_server(names.theirs)
            request_id = request.scope.get("state", {}).get("request_id")
            sent = WireRequest(path, body, content_type, request_id)
            async with AsyncExitStack() as resources:
                resources.enter_context(engine.admitted())
                answer = await unless_client_leaves(request, _opened(engine, sent, resources))
                told = _Told(context, engine)
                if answer.content_type.startswith(sse.MEDIA_TYPE):
                    reader = AnswerEvents(
                        model_name=names.theirs, model_id=names.ours, wants_usage=asked.wants_usage
                    )
                    resources.callback(told.at_end)
                    frames = _frames(events_of(answer.chunks(), reader), told)
                    return await event_stream(request, with_errors_told(frames), resources)
                content = await unless_client_leaves(request, _whole(answer))
                if read is _asked_by_form and answer.content_type.startswith(_TRANSCRIPTS):
                    told.at_end()
                    return Response(content, headers={"Content-Type": answer.content_type})
                passed, usage = read_answer(content, names.theirs, names.ours)
                told.note(usage)
                told.at_end()
                return Response(passed, media_type="application/json")
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)

    return relay


@dataclass(frozen=True)
class _Names:
    """Of the model."""

    theirs: str
    ours: str


async def _opened(engine: WireEngine, sent: WireRequest, resources: AsyncExitStack) -> WireAnswer:
    answer = await engine.open(sent)
    resources.push_async_callback(answer.aclose)
    return answer


async def _whole(answer: WireAnswer) -> bytes:
    parts, size = [], 0
    async for chunk in answer.chunks():
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise UpstreamFailed(f"The model's server sent more than {MAX_ANSWER_BYTES} bytes.")
    return b"".join(parts)


class _Told:
    """Keeps count of one answer; what the server says in the end has the last word."""

    def __init__(self, context: RouteContext[WireEngine], engine: WireEngine) -> None:
        self._context = context
        self._engine = engine
        self._usage = Usage()
        self._seen = 0
        self._record = CURRENT.get()
        self._clock = self._record.token_clock() if self._record is not None else None

    def note_event(self, event: Passed) -> None:
        if event.tokens:
            self._seen += event.tokens
            self._engine.note_tokens(event.tokens)
            if self._clock is not None:
                self._clock.note(event.tokens)
        self.note(event.usage)

    def note(self, usage: Usage | None) -> None:
        if usage is not None:
            self._usage = usage

    def at_end(self) -> None:
        if self._usage.seconds:
            self._context.usage.observe_audio(self._usage.seconds)
        completion = self._usage.completion_tokens
        if completion is not None and not self._seen:
            self._engine.note_tokens(completion)
        self._context.usage.observe_tokens(
            self._usage.prompt_tokens or 0, self._seen if completion is None else completion
        )
        if self._record is not None:
            self._record.cached_tokens = self._usage.cached_tokens
            if self._usage.prompt_tokens is None:
                self._record.prompt_tokens = None  # nobody said, which is not none


async def _frames(events: AsyncGenerator[Passed, None], told: _Told) -> AsyncGenerator[bytes, None]:
    try:
        async for event in events:
            told.note_event(event)
            if event.frame:
                yield event.frame
    finally:
        await events.aclose()
