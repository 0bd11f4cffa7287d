"""Errors that leave a program over HTTP, all in OpenAI's envelope.

ApiError
├── InvalidRequest        400  the request cannot be understood or honoured; names the parameter
│   └── ContextTooLong    400  prompt and answer do not fit the model's context
├── Unauthenticated       401  no API key, or one that is not known
├── Forbidden             403  known, but not allowed
├── NotFound              404  no such route or thing
│   └── ModelNotFound     404  nobody serves or holds this model
├── MethodNotAllowed      405  the route exists, the method does not
├── Conflict              409  the state of things forbids it
├── PayloadTooLarge       413  the body is larger than the limit
├── TooManyRequests       429  queue full or rate exceeded: back-pressure
├── InternalError         500  our own fault
├── UpstreamFailed        502  every replica that could be tried failed before its first byte
├── Unavailable           503  known, but not ready now: try again
└── UpstreamTimeout       504  no first byte within the limit
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel


class ApiError(Exception):
    """An error with OpenAI's four fields, an HTTP status and advice on retrying.

    `param` names the request's field at fault. `retry_after_s` becomes `Retry-After`; the official clients
    give up above 120 s. `should_retry=False` tells them not to repeat what would fail or double the work.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code
        self.retry_after_s = retry_after_s
        self.should_retry = should_retry

    def envelope(self) -> dict[str, Any]:
        """The body: `{"error": {message, type, param, code}}`, all four keys always present."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Response headers that tell a client whether and when to try again."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, min(120, round(self.retry_after_s))))
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        return headers


class InvalidRequest(ApiError):
    """The request cannot be understood or honoured. OpenAI answers 400, not 422."""

    status, type = 400, "invalid_request_error"


class ContextTooLong(InvalidRequest):
    """Prompt and answer do not fit the model's context."""

    default_code = "context_length_exceeded"


class Unauthenticated(ApiError):
    """No API key, or one that is not known."""

    status, type, default_code = 401, "invalid_request_error", "invalid_api_key"

    def headers(self) -> dict[str, str]:
        """Adds the challenge that RFC 9110 requires with a 401."""
        return {**super().headers(), "WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):
    """Known, but not allowed."""

    status, type, default_code = 403, "invalid_request_error", "permission_denied"


class NotFound(ApiError):
    """No such route or thing."""

    status, type, default_code = 404, "invalid_request_error", "not_found"


class ModelNotFound(NotFound):
    """Nobody serves or holds this model."""

    default_code = "model_not_found"


class MethodNotAllowed(ApiError):
    """The route exists, the method does not."""

    status, type, default_code = 405, "invalid_request_error", "method_not_allowed"


class Conflict(ApiError):
    """The state of things forbids it."""

    status, type, default_code = 409, "invalid_request_error", "conflict"


class PayloadTooLarge(ApiError):
    """The body is larger than the limit."""

    status, type, default_code = 413, "invalid_request_error", "payload_too_large"


class TooManyRequests(ApiError):
    """Queue full or rate exceeded: back-pressure."""

    status, type, default_code = 429, "rate_limit_error", "rate_limit_exceeded"


class InternalError(ApiError):
    """Our own fault; the log has the cause under the same request id."""

    default_code = "internal_error"


class UpstreamFailed(ApiError):
    """Every replica that could be tried failed before its first byte."""

    status, default_code = 502, "upstream_failed"


class Unavailable(ApiError):
    """Known, but not ready now: try again."""

    status, default_code = 503, "service_unavailable"


class UpstreamTimeout(ApiError):
    """No first byte within the limit. Never repeated by clients: the work may still be going on."""

    status, default_code = 504, "upstream_timeout"


class ErrorDetail(BaseModel):
    """The four fields of OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """Body of every error answer; what the OpenAPI descriptions refer to."""

    error: ErrorDetail


def from_status(status: int, message: str) -> ApiError:
    """The error of the tree that has this HTTP status; others become InvalidRequest or InternalError."""
    known = {cls.status: cls for cls in (*ApiError.__subclasses__(),)}
    fallback: type[ApiError] = InvalidRequest if 400 <= status < 500 else InternalError
    return known.get(status, fallback)(message)


def from_validation(errors: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """The first of pydantic's errors as a 400 that names the parameter by its path (`messages.0.role`)."""
    first = errors[0]
    path = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    param = ".".join(path) or None
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "unreadable")
        return InvalidRequest(f"The body is not valid JSON: {reason}.", param=None, code="invalid_json")
    if first["type"] == "missing" and param is None:
        return InvalidRequest("The request has no body; a JSON object is needed.", code="invalid_json")
    text = str(first["msg"]).removeprefix("Value error, ")
    where = f"Invalid value for '{param}': " if param else "Invalid request: "
    return InvalidRequest(f"{where}{text}.".replace("..", "."), param=param, code="invalid_value")
