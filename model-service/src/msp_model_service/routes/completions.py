"""`POST /v1/completions`: texts gone on with."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from msp_common import sse
from msp_common.errors import InvalidRequest
from msp_model_service.chat import continuing
from msp_model_service.chat.accounting import Account
from msp_model_service.chat.choices import merged
from msp_model_service.chat.completion_texts import CompletionText
from msp_model_service.chat.continuing import Passage
from msp_model_service.chat.prompts import read_prompts
from msp_model_service.chat.rendering import AnswerHead, frame, usage_json
from msp_model_service.chat.wire import CompletionRequest
from msp_model_service.engines.chat import ChatEngine, Generation, GenerationRequest, PreparedPrompt
from msp_model_service.routes.context import RouteContext
from msp_model_service.routes.generating import respond, sampling_of, start, stops_of, wants_usage

DEFAULT_MAX_TOKENS = 16


def router(context: RouteContext[ChatEngine]) -> APIRouter:
    """The route, for the engine that `context` holds."""
    routes = APIRouter(tags=["chat"])

    @routes.post(
        "/v1/completions",
        summary="Go on with a text",
        response_class=Response,
        response_description="A `text_completion`, or a stream of them",
    )
    async def completions(body: CompletionRequest, request: Request) -> Response:
        model = context.check_model(body.model)
        engine = context.engine()
        _refuse_unsupported(body)
        prompts = list(await asyncio.gather(*(engine.prepare_text(p) for p in read_prompts(body.prompt))))
        if _scores(body) and not all(prompt.scorable for prompt in prompts):
            raise _unsupported("logprobs", "this engine has none for the prompt's own tokens ('echo')")
        continuing.check(body, len(prompts))
        requests = [_request(body, prompt, i) for prompt in prompts for i in range(body.n or 1)]
        account = Account(prompts, body.n or 1)
        texts = [
            CompletionText(i, asked.prompt.text if body.echo else "", body.logprobs is not None)
            for i, asked in enumerate(requests)
        ]
        head = continuing.head_of(body, model.id)
        passage = Passage.of(body, request.headers.get(continuing.ASKS), prompts=len(prompts))
        async with AsyncExitStack() as resources:
            generations = start(engine, requests, account, context.usage, resources)
            answer = _Answer(head, generations, texts, account, wants_usage(body), passage)
            return await respond(
                request,
                answer,
                stream=bool(body.stream),
                resources=resources,
                fields=continuing.fields_of(body),
            )

    return routes


def _refuse_unsupported(body: CompletionRequest) -> None:
    if body.suffix:
        reason, param = "this model cannot fill in the middle of a text", "suffix"
    elif body.best_of not in (None, 1):
        reason, param = "only 1 is supported; ask for several with 'n'", "best_of"
    elif body.max_tokens == 0 and not (body.echo and body.logprobs is not None):
        reason, param = "0 makes sense with 'echo' and 'logprobs' only, to score the prompt", "max_tokens"
    else:
        return
    raise _unsupported(param, reason)


def _unsupported(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unsupported value for '{param}': {reason}.", param=param, code="unsupported_value"
    )


def _scores(body: CompletionRequest) -> bool:
    """Whether the prompt's tokens are to be scored too."""
    return bool(body.echo) and body.logprobs is not None


def _request(body: CompletionRequest, prompt: PreparedPrompt, choice: int) -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt,
        sampling=sampling_of(body, choice),
        max_tokens=DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens,
        stop=stops_of(body),
        top_logprobs=body.logprobs,
        ignore_eos=bool(body.ignore_eos),
        begun=continuing.begun(body),
        score_prompt=_scores(body),
    )


@dataclass
class _Answer:
    """One request's answer, whole or in frames."""

    head: AnswerHead
    generations: list[Generation]
    texts: list[CompletionText]
    account: Account
    with_usage: bool
    passage: Passage

    async def whole(self) -> dict[str, Any]:
        """A `text_completion`."""
        async for index, event in merged(self.generations):
            self.account.note(index, event)
            self.texts[index].add(event)
        body = self.head.body("text_completion", [text.taken() for text in self.texts])
        return {**body, "usage": usage_json(self.account.usage)}

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """`text_completion` events and `[DONE]`."""
        no_usage = {"usage": None} if self.with_usage else {}
        async for index, event in merged(self.generations):
            self.account.note(index, event)
            self.texts[index].add(self.passage.news_of_event(event))
            if self.texts[index].has_news:
                told = self.head.body("text_completion", [self.texts[index].taken()])
                yield self.passage.marked(frame({**told, **no_usage}))
        if self.with_usage:
            yield frame({**self.head.body("text_completion", []), "usage": usage_json(self.account.usage)})
        yield sse.DONE
