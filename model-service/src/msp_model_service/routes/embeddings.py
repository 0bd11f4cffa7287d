"""`POST /v1/embeddings`."""

from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.requests import ClientDisconnect

from msp_model_service.embeddings import answers, inputs
from msp_model_service.embeddings.shortening import shortened, size_for
from msp_model_service.embeddings.tokenizing import Tokenizing
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


_WRITTEN_AT_ONCE = 8192
"""Numbers that are written as text sooner than a thread is woken for it; 2048 vectors take half a second."""


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
    """Length of the vectors. Shorter ones than the model's own only where it was trained for them."""


def router(context: RouteContext[Embedder]) -> APIRouter:
    """The routes of a worker that embeds."""
    routes = APIRouter(tags=["embeddings"])
    tokenizing = Tokenizing()

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
        form = engine.form()
        size = size_for(body.dimensions, form)
        given = inputs.parse(body.input)
        single = not isinstance(body.input, list) or isinstance(body.input[0], int)

        async def embedded() -> tuple[NDArray[np.float32], int]:
            ids = await tokenizing.ids(engine, given, single=single)
            vectors = await engine.embed(ids)
            return shortened(vectors, size, unit=form.unit), sum(map(len, ids))

        try:
            vectors, tokens = await unless_client_leaves(request, embedded())
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        context.usage.observe_tokens(tokens, 0)
        write = partial(answers.body, vectors, body.encoding_format or "float", model=model.id, tokens=tokens)
        content = write() if vectors.size <= _WRITTEN_AT_ONCE else await to_thread.run_sync(write)
        return Response(content, media_type="application/json")

    return routes
