"""What the routes that generate text have in common."""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from msp_common.errors import ApiError, InternalError
from msp_model_service.chat.accounting import Account
from msp_model_service.chat.rendering import frame
from msp_model_service.chat.wire import GenerationFields
from msp_model_service.engines.chat import ChatEngine, Generation, GenerationRequest, Sampling
from msp_model_service.engines.timed_generation import timed
from msp_model_service.request_record import CURRENT
from msp_model_service.routes.context import UsageSink
from msp_model_service.routes.event_streams import event_stream
from msp_model_service.routes.leaving import CLIENT_LEFT, unless_client_leaves

log = logging.getLogger(__name__)


def sampling_of(body: GenerationFields, choice: int) -> Sampling:
    """How to choose the tokens of one choice. Choices of one seed differ, and each is reproducible."""
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        seed=None if body.seed is None else body.seed + choice,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=body.repetition_penalty,
        logit_bias=body.logit_bias or {},
    )


def stops_of(body: GenerationFields) -> tuple[str, ...]:
    """Its stop sequences. Empty ones, which some clients send for none, stop nothing."""
    return tuple(stop for stop in body.stop or () if stop)


def wants_usage(body: GenerationFields) -> bool:
    """Whether the stream is to end with the usage."""
    return bool(body.stream_options and body.stream_options.include_usage)


def start(
    engine: ChatEngine,
    requests: Sequence[GenerationRequest],
    account: Account,
    usage: UsageSink,
    resources: AsyncExitStack,
) -> list[Generation]:
    """All generations of a request. `resources` gives them up and tells what was used, however it ends."""
    generations: list[Generation] = []
    for request in requests:
        generation = timed(engine.generate(request))
        resources.push_async_callback(generation.aclose)
        generations.append(generation)
    resources.callback(_tell, account, usage)
    return generations


def _tell(account: Account, usage: UsageSink) -> None:
    used = account.usage
    usage.observe_tokens(used.prompt_tokens, used.completion_tokens)
    if (record := CURRENT.get()) is not None:
        record.cached_tokens = used.cached_tokens


class Answer(Protocol):
    """An answer that is made while it is read."""

    async def whole(self) -> dict[str, Any]:
        """As one JSON object."""

    def frames(self) -> AsyncGenerator[bytes, None]:
        """As server-sent events."""


def _as_envelope(error: ApiError) -> bytes:
    return frame(error.envelope())


async def respond(
    request: Request,
    answer: Answer,
    *,
    stream: bool,
    resources: AsyncExitStack,
    failed: Callable[[ApiError], bytes] = _as_envelope,
    fields: Mapping[str, str] | None = None,
) -> Response:
    """The HTTP response. The work ends with the client's connection, streamed or not.

    `failed` makes the last frame of a stream that breaks off; `fields` are further ones of a stream's head.
    """
    try:
        if stream:
            return await event_stream(request, with_errors_told(answer.frames(), failed), resources, fields)
        return JSONResponse(await unless_client_leaves(request, answer.whole()))
    except ClientDisconnect:
        return Response(status_code=CLIENT_LEFT)


async def with_errors_told(
    frames: AsyncGenerator[bytes, None], failed: Callable[[ApiError], bytes] = _as_envelope
) -> AsyncGenerator[bytes, None]:
    """The frames; an error after the first becomes a last frame, with no `[DONE]` behind it."""
    begun = False
    try:
        async for one in frames:
            yield one
            begun = True
    except ApiError as error:
        if not begun:
            raise
        yield failed(error)
    except Exception as error:
        if not begun:
            raise
        log.error("streaming failed", exc_info=error)
        yield failed(InternalError("Unexpected error; the log has the cause."))
    finally:
        await frames.aclose()
