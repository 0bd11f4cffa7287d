"""A worker's error, passed on in OpenAI's envelope whatever the worker wrote."""

from dataclasses import dataclass
from typing import Any

import msgspec

from msp_common.errors import from_status

MAX_TEXT = 500


@dataclass(frozen=True)
class ErrorAnswer:
    """A whole answer with a status of 400 or more."""

    status: int
    body: bytes
    code: str | None = None
    param: str | None = None
    retry_after: bytes | None = None
    should_retry: bool | None = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Its header fields, but for the request id."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self.body))]
        if self.retry_after is not None:
            headers.append((b"retry-after", self.retry_after))
        if self.should_retry is not None:
            headers.append((b"x-should-retry", b"true" if self.should_retry else b"false"))
        return headers


def read_error(status: int, body: bytes) -> ErrorAnswer:
    """The worker's body where it is an envelope, else one around the message that it holds, if any."""
    try:
        answer: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = None
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        whole = {"type": "server_error" if status >= 500 else "invalid_request_error", "param": None}
        told = {"code": None, **whole, **error}
        code, param = (told[key] if isinstance(told[key], str) else None for key in ("code", "param"))
        return ErrorAnswer(status, msgspec.json.encode({**answer, "error": told}), code, param)
    said = [error] + ([answer.get(key) for key in ("detail", "message")] if isinstance(answer, dict) else [])
    text = next((s for s in said if isinstance(s, str)), "it did not say why")
    made = from_status(status, f"The worker answered {status}: {text[:MAX_TEXT]}")
    return ErrorAnswer(status, msgspec.json.encode(made.envelope()), made.code, made.param)


def enveloped(status: int, body: bytes) -> bytes:
    """The same, but for the body alone."""
    return read_error(status, body).body
