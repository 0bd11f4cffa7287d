"""`POST /v1/embeddings`."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import anyio
from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.requests import ClientDisconnect

from msp_common.errors import InvalidRequest
from msp_model_service.embeddings import answers, inputs
from msp_model_service.engines.embedder import Embedder
from msp_model_service.routes.context import RouteContext
from msp_model_service.routes.leaving import CLIENT_LEFT, unless_client_leaves

_INPUT_SCHEMA = {
    "oneOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "items": {"type": "integer", "minimum": 0}},
        {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0}}},
    ],
    "examples": ["The quick brown fox", ["one text", "another text"]],
}

_ANSWER_SCHEMA = {
    "type": "object",
    "required": ["object", "data", "model", "usage"],
    "properties": {
        "object": {"const": "list"},
        "data": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["object", "index", "embedding"],
                "properties": {
                    "object": {"const": "embedding"},
                    "index": {"type": "integer"},
                    "embedding": {
                        "oneOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]
                    },
                },
            },
        },
        "model": {"type": "string"},
        "usage": {
            "type": "object",
            "properties": {"prompt_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}},
        },
    },
}


class EmbeddingsRequest(BaseModel):
    """Body of an embeddings request. Fields that are not known are ignored."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)

    input: Annotated[Any, WithJsonSchema(_INPUT_SCHEMA)] = Field()
    """What to embed: a text, texts, token ids of this model, or lists of them; at most 2048 items."""

    model: str | None = None
    """The model's id or an alias; may be absent."""

    encoding_format: Literal["float", "base64"] | None = None
    """`float` (also when absent) or `base64` of little-endian float32."""

    dimensions: int | None = None
    """Only the model's own size is possible."""


def router(context: RouteContext[Embedder]) -> APIRouter:
    """The routes of a worker that embeds."""
    routes = APIRouter(tags=["embeddings"])
    # The tokenizer's settings are shared state: one text batch at a time.
    tokenizing = anyio.CapacityLimiter(1)

    @routes.post(
        "/v1/embeddings",
        summary="Vectors for texts",
        response_class=Response,
        responses={200: {"content": {"application/json": {"schema": _ANSWER_SCHEMA}}}},
    )
    async def embeddings(body: EmbeddingsRequest, request: Request) -> Response:
        """Inputs longer than the model's context are refused, never cut. `usage` counts the tokens that the
        model read, special tokens included."""
        model = context.check_model(body.model)
        engine = context.engine()
        _check_dimensions(body.dimensions, engine.capabilities().dimensions)
        given = inputs.parse(body.input)
        single = not isinstance(body.input, list) or isinstance(body.input[0], int)
        ids = await to_thread.run_sync(partial(_complete, engine, given, single), limiter=tokenizing)
        try:
            vectors = await unless_client_leaves(request, engine.embed(ids))
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        tokens = sum(map(len, ids))
        context.usage.observe_tokens(tokens, 0)
        # Writing 2048 vectors as text takes a second: not on the event loop.
        content = await to_thread.run_sync(
            partial(answers.body, vectors, body.encoding_format or "float", model=model.id, tokens=tokens)
        )
        return Response(content, media_type="application/json")

    return routes


def _complete(engine: Embedder, given: inputs.Texts | inputs.TokenLists, single: bool) -> Sequence[list[int]]:
    """The ids that the model will read, all within its limits."""
    limits = engine.limits()
    texts = [item for item in given if isinstance(item, str)]
    lists = [item for item in given if not isinstance(item, str)]
    inputs.check_vocabulary(lists, limits.vocabulary, single=single)
    ids = engine.tokenize(texts) if texts else [engine.complete(item) for item in lists]
    inputs.check_lengths(ids, limits, single=single)
    return ids


def _check_dimensions(asked: int | None, own: int | None) -> None:
    if asked is not None and asked != own:
        raise InvalidRequest(
            f"'dimensions' is {asked}, but this model's vectors have {own} and cannot be shortened.",
            param="dimensions",
        )
