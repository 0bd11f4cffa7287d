"""The relayed paths' entries in the OpenAPI description: FastAPI does not see those paths."""

from typing import Any

from msp_gateway.hf_inference import PREFIX
from msp_gateway.paths import RELAY_PATHS, RelayPath

_MODEL = {
    "type": "string",
    "nullable": True,
    "description": "Id or alias of a model; without one the default model of the path's type answers.",
}
_STREAM = {"type": "boolean", "default": False, "description": "Answer with server-sent events."}
_FIELDS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": {"type": "array", "items": {"type": "object"}, "minItems": 1},
        "stream": _STREAM,
    },
    "/v1/completions": {"prompt": {"type": "string"}, "stream": _STREAM},
    "/v1/responses": {
        "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
        "stream": _STREAM,
    },
    "/v1/embeddings": {"input": {"type": "array", "items": {"type": "string"}}},
    "/v1/audio/transcriptions": {"file": {"type": "string", "format": "binary"}},
    "/v1/audio/translations": {"file": {"type": "string", "format": "binary"}},
}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello!"}], "stream": False},
    "/v1/completions": {"prompt": "Once upon a time", "max_tokens": 16},
    "/v1/responses": {"input": "Hello!", "stream": False},
    "/v1/embeddings": {"input": ["The cat sleeps.", "A kitten naps."]},
}
_ERROR = {
    "description": "An error in OpenAI's envelope",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}},
}
_TAGS = ["relayed to workers"]


def add_relay_paths(schema: dict[str, Any]) -> None:
    """Write the relayed paths into a description made by FastAPI."""
    for path in RELAY_PATHS.values():
        schema["paths"][path.path] = {"post": _operation(path)}
    schema["paths"][f"{PREFIX}{{model}}"] = {"post": _hf_inference()}


def _operation(path: RelayPath) -> dict[str, Any]:
    fields = _FIELDS[path.path]
    body: dict[str, Any] = {
        "schema": {
            "type": "object",
            "properties": {"model": _MODEL, **fields},
            "required": [next(iter(fields))],
            "additionalProperties": True,
        }
    }
    if path.path in _EXAMPLES:
        body["example"] = _EXAMPLES[path.path]
    return {
        "tags": _TAGS,
        "summary": path.summary,
        "operationId": path.path.strip("/").replace("/", "_"),
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data" if path.multipart else "application/json": body},
        },
        "responses": {
            "200": {
                "description": "The worker's answer, as OpenAI's API describes it",
                "headers": {
                    "x-msp-model": {
                        "description": "The model that answered; another one may have stood in",
                        "schema": {"type": "string"},
                    }
                },
            },
            "4XX": _ERROR,
            "5XX": _ERROR,
        },
    }


def _hf_inference() -> dict[str, Any]:
    return {
        "tags": _TAGS,
        "summary": "Write down a recording, sent as the whole body",
        "operationId": "hf_inference_models",
        "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": {
            "required": True,
            "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
        },
        "responses": {
            "200": {
                "description": "What was said",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "properties": {"text": {"type": "string"}},
                            "required": ["text"],
                        }
                    }
                },
            },
            "4XX": _ERROR,
            "5XX": _ERROR,
        },
    }
