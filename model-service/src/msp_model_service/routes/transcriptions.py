"""`POST /v1/audio/transcriptions`, and `/v1/audio/translations`, which differs in what is written down."""

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from msp_common import sse
from msp_common.errors import ApiError, InternalError, InvalidRequest, PayloadTooLarge
from msp_model_service.audio import languages, transcript
from msp_model_service.audio.decoding import decode
from msp_model_service.audio.form import TranscriptionForm, read
from msp_model_service.audio.held import HeldAudio
from msp_model_service.audio.limits import AudioLimits
from msp_model_service.audio.transcript import ResponseFormat, Task, Transcript
from msp_model_service.engines.transcriber import (
    SAMPLE_RATE,
    Language,
    Segment,
    Transcriber,
    TranscriptionRequest,
)
from msp_model_service.routes.context import RouteContext, UsageSink
from msp_model_service.routes.event_streams import event_stream
from msp_model_service.routes.leaving import CLIENT_LEFT, unless_client_leaves

log = logging.getLogger(__name__)

Heard = AsyncGenerator[Language | Segment, None]


_STRING = {"type": "string"}
_LIST = {"type": "array", "items": _STRING}
_FORM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "wav, mp3, m4a, webm, ogg, flac, mp4 ...",
        },
        "model": {**_STRING, "description": "The model's id or an alias; may be absent."},
        "language": {**_STRING, "description": "A code or an English name; detected when absent."},
        "prompt": {**_STRING, "description": "Text that might stand before: spellings, names, style."},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
        "response_format": {"type": "string", "enum": list(ResponseFormat), "default": "json"},
        "timestamp_granularities[]": {
            **_LIST,
            "description": "`segment` and `word`, with verbose_json.",
        },
        "include[]": {**_LIST, "description": "Accepted and ignored."},
        "stream": {"type": "boolean", "default": False, "description": "Events as the text becomes known."},
    },
}
_NOT_OF_TRANSLATIONS = frozenset({"include[]", "stream"})
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The transcript in the form that was asked for",
        "content": {
            "application/json": {"schema": {"type": "object", "properties": {"text": _STRING}}},
            "text/plain": {"schema": _STRING},
            sse.MEDIA_TYPE: {"schema": _STRING},
        },
    }
}


def router(context: RouteContext[Transcriber], limits: AudioLimits | None = None) -> APIRouter:
    """The routes of a worker that transcribes.

    The application bounds the whole body (`BodyLimitMiddleware`); the file in it is bounded here.
    """
    limits = limits or AudioLimits()
    routes = APIRouter(tags=["audio"])
    decoders = anyio.CapacityLimiter(limits.decoders)
    held = HeldAudio(limits.max_held_s)

    @routes.post(
        "/v1/audio/transcriptions",
        summary="Write down speech",
        response_class=Response,
        openapi_extra=_openapi(Task.TRANSCRIBE),
        responses=_ANSWERS,
    )
    async def transcriptions(request: Request) -> Response:
        """Any length up to the limit; silence gives an empty text. With `stream`, one
        `transcript.text.delta` for each segment, then `transcript.text.done`."""
        return await answer(request, Task.TRANSCRIBE)

    @routes.post(
        "/v1/audio/translations",
        summary="Write down speech of any language in English",
        response_class=Response,
        openapi_extra=_openapi(Task.TRANSLATE),
        responses=_ANSWERS,
    )
    async def translations(request: Request) -> Response:
        """As a transcription, in English. `language` is that of the recording; detected when absent."""
        return await answer(request, Task.TRANSLATE)

    async def answer(request: Request, task: Task) -> Response:
        async with AsyncExitStack() as resources:
            try:
                fields = await _form(request)
                resources.push_async_callback(fields.close)
                form = read(fields.multi_items(), task)
                context.check_model(form.model)
                engine = context.engine()
                asked = await _understood(form, task, engine, limits, decoders)
                resources.enter_context(held.hold(asked.audio))
                duration_s = asked.audio.size / SAMPLE_RATE
                told = _Told(context.usage, duration_s)
                resources.callback(told.at_end)
                heard = told.noting(engine.transcribe(asked))
                resources.push_async_callback(heard.aclose)
                if form.stream:
                    return await event_stream(request, _events(heard, duration_s), resources)
                segments, language = await unless_client_leaves(request, _all(heard))
            except ClientDisconnect:
                return Response(status_code=CLIENT_LEFT)
        found = Transcript(
            segments,
            "english" if asked.translate else languages.name(language, engine.languages()),
            duration_s,
            task,
            tell_segments=form.segments,
            tell_words=form.words,
        )
        body = transcript.render(found, form.response_format)
        return Response(body, media_type=form.response_format.media_type)

    return routes


def _openapi(task: Task) -> dict[str, Any]:
    properties: dict[str, Any] = _FORM_SCHEMA["properties"]
    if task is Task.TRANSLATE:
        properties = {name: field for name, field in properties.items() if name not in _NOT_OF_TRANSLATIONS}
    schema = {**_FORM_SCHEMA, "properties": properties}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


async def _form(request: Request) -> FormData:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise InvalidRequest(
            "The body must be multipart/form-data with the recording in 'file'; "
            f"the content type is {media_type[:60] or 'missing'}.",
            param="file",
        )
    try:
        return await request.form(max_files=1, max_fields=64)
    except HTTPException as error:
        raise InvalidRequest(f"The form cannot be read: {error.detail}", param="file") from error


async def _understood(
    form: TranscriptionForm,
    task: Task,
    engine: Transcriber,
    limits: AudioLimits,
    decoders: anyio.CapacityLimiter,
) -> TranscriptionRequest:
    """The request for the engine: first what is cheap to refuse, then the decoded recording."""
    if task is Task.TRANSLATE and not engine.translates():
        raise InvalidRequest(
            "This model cannot translate: it knows English alone, or was not trained for it. "
            "Use /v1/audio/transcriptions, or another model.",
            param="model",
            code="unsupported_value",
        )
    language = languages.resolve(form.language, engine.languages())
    if form.prompt:
        await to_thread.run_sync(engine.check_prompt, form.prompt)
    if form.file.size is not None and form.file.size > limits.max_file_bytes:
        raise PayloadTooLarge(
            f"The file has {form.file.size} bytes; at most {limits.max_file_bytes} are taken. "
            "Compress it or send it in parts.",
            param="file",
        )
    audio = await to_thread.run_sync(
        partial(decode, form.file.file, limits.max_duration_s), limiter=decoders, abandon_on_cancel=False
    )
    return TranscriptionRequest(
        audio=audio,
        language=language,
        prompt=form.prompt,
        temperature=form.temperature,
        translate=task is Task.TRANSLATE,
        timestamps=form.response_format.has_times,
        words=form.words,
    )


class _Told:
    """Keeps count of one recording: all of it once it is written down, else what was heard of it."""

    def __init__(self, usage: UsageSink, duration_s: float) -> None:
        self._usage = usage
        self._duration_s = duration_s
        self._heard_s = 0.0

    async def noting(self, heard: Heard) -> Heard:
        """Passes everything on."""
        try:
            async for item in heard:
                if isinstance(item, Segment):
                    self._heard_s = min(item.end, self._duration_s)
                yield item
            self._heard_s = self._duration_s
        finally:
            await heard.aclose()

    def at_end(self) -> None:
        if self._heard_s:
            self._usage.observe_audio(self._heard_s)


async def _all(heard: Heard) -> tuple[list[Segment], str | None]:
    """All segments, and the language's code."""
    segments: list[Segment] = []
    language: str | None = None
    async for item in heard:
        if isinstance(item, Segment):
            segments.append(item)
        else:
            language = item.code
    return segments, language


async def _events(heard: Heard, duration_s: float) -> AsyncGenerator[bytes, None]:
    """A delta for each segment, the whole text, and what ends a stream.

    A failure is an event too, unless it is the first: then it is raised, to become an answer of its own.
    """
    segments: list[Segment] = []
    sent = ""
    try:
        async for item in heard:
            if not isinstance(item, Segment):
                continue
            segments.append(item)
            text = transcript.text_of(segments)
            if len(text) > len(sent):
                yield _event({"type": "transcript.text.delta", "delta": text[len(sent) :]})
                sent = text
    except Exception as error:
        if not sent:
            raise
        if isinstance(error, ApiError):
            yield _event(error.envelope())
        else:
            log.exception("transcription failed after its answer had begun")
            failed = InternalError("The transcription failed; what came before this is incomplete.")
            yield _event(failed.envelope())
        return
    usage = transcript.usage(duration_s)
    yield _event({"type": "transcript.text.done", "text": sent, "usage": usage})
    yield sse.DONE


def _event(value: dict[str, Any]) -> bytes:
    return sse.frame(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
