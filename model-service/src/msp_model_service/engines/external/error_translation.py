"""A server's error in our own terms, whatever dialect it speaks.

Seen: OpenAI's envelope; the same with a number as `code` (vLLM, llama-server); `{"object": "error",
"message": ...}` (older vLLM, SGLang); `{"error": "text"}`; FastAPI's `{"detail": ...}`; plain text; and
status 500 for what FastAPI refuses (llama-cpp-python).
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msp_common.errors import (
    ApiError,
    ContextTooLong,
    InvalidRequest,
    PayloadTooLarge,
    TooManyRequests,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from msp_common.logs import redact

log = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 1000
_LOGGED_CHARACTERS = 200
_CONTEXT = re.compile(
    r"(?i)context[ _-]?(length|size|window)|maximum (model|input|sequence) length|max_model_len|"
    r"input is too long|longer than the (model|context)"
)
# Words for "the model does not exist", as servers say it when the name we send is not theirs.
_NO_SUCH_MODEL = re.compile(r"(?i)model.{0,200}(does not exist|not found|not exist)|server is pinned to")
# How pydantic's refusal of a request's body reads as text: the field's path, and what is wrong with it.
_VALIDATION = re.compile(
    r"(\d+) validation errors?:\s+\{[^{]*'loc': \('body', ([^)]*)\), 'msg': (['\"])(.*?)\3,"
)


@dataclass(frozen=True)
class Said:
    """What an error body says."""

    message: str
    param: str | None = None
    code: str | None = None


def read_error(body: bytes) -> Said:
    """The message and what else is in a body; the beginning of its text where it is no JSON object."""
    text = body.decode(errors="replace").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return Said(text[:_SHOWN_CHARACTERS])
    return said(value) if isinstance(value, dict) else Said(text[:_SHOWN_CHARACTERS])


def said(value: Mapping[str, Any]) -> Said:
    """The same of a JSON object."""
    error = value.get("error", value)
    if isinstance(error, str):
        return Said(error[:_SHOWN_CHARACTERS])
    if not isinstance(error, Mapping):
        return Said(str(error)[:_SHOWN_CHARACTERS])
    if isinstance(detail := error.get("detail"), list) and detail and isinstance(detail[0], Mapping):
        place = [str(part) for part in detail[0].get("loc", ()) if part not in ("body", "query")]
        return Said(str(detail[0].get("msg", ""))[:_SHOWN_CHARACTERS], ".".join(place) or None)
    message = error.get("message") or error.get("detail") or ""
    param, code = error.get("param"), error.get("code")
    return Said(
        str(message)[:_SHOWN_CHARACTERS],
        param if isinstance(param, str) else None,
        code if isinstance(code, str) else None,
    )


def translated(
    status: int,
    body: bytes,
    *,
    retry_after_s: float | None = None,
    model_name: str = "",
    model_id: str = "",
) -> ApiError:
    """The error for the client. What the client cannot mend is told without the server's own words.

    `model_name` is what the server calls the model: often a path that is nobody's business.
    """
    told = read_error(body)
    message = told.message.replace(model_name, model_id) if model_name else told.message
    named_wrong = status in (400, 404) and _NO_SUCH_MODEL.search(message)
    if status in (401, 403, 404, 405) or named_wrong or status < 400:
        log.error("the server refuses the worker itself: status %d: %s", status, _for_log(message))
        return UpstreamFailed(f"The model's server refuses this worker: {_why(status)}.", should_retry=False)
    if status == 413:
        return PayloadTooLarge(message or "The request is too large for the model's server.", param="body")
    if status == 429:
        return TooManyRequests(message or "The model's server is busy.", retry_after_s=retry_after_s or 1)
    if status < 500:
        if told.code == "context_length_exceeded" or _CONTEXT.search(message):
            return ContextTooLong(message, param=told.param)
        return InvalidRequest(
            message or f"The model's server refused the request with status {status}.",
            param=told.param,
            code=told.code or "invalid_value",
        )
    if status == 500 and (refused := _refused_body(message)) is not None:
        return refused
    log.warning("the server failed: status %d: %s", status, _for_log(message))
    if status == 503:
        return Unavailable("The model's server is not ready.", retry_after_s=retry_after_s or 2)
    if status == 504:
        return UpstreamTimeout("The model's server did not answer in time.", should_retry=False)
    return UpstreamFailed(f"The model's server failed with status {status}.", should_retry=False)


def _refused_body(message: str) -> InvalidRequest | None:
    """The client's mistake that a server tells as a failure of its own; null where it is one."""
    found = _VALIDATION.match(message)
    if found is None:
        return None
    # Behind the field's own path stand the names of the server's classes, where several are possible.
    path = [part.strip(" '") for part in found[2].split(",")]
    own = [part for part in path if part and part == part.lower()]
    param = ".".join(own[: next((i for i, part in enumerate(path) if part not in own), len(own))])
    why = f": {found[4]}" if found[1] == "1" else ""
    return InvalidRequest(f"Invalid value for '{param}'{why}.", param=param, code="invalid_value")


def _why(status: int) -> str:
    if status in (401, 403):
        return "it wants another API key; see ENGINE_API_KEY"
    if status in (400, 404):
        return "it does not know the model or the path; see ENGINE_MODEL_NAME and ENGINE_BASE_PATH"
    return f"status {status}; see ENGINE_BASE_PATH"


def _for_log(message: str) -> str:
    return redact(message[:_LOGGED_CHARACTERS])
