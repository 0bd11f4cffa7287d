"""`POST /hf-inference/models/{model}`: a recording as the whole body, as Hugging Face's API takes it.

Chat UI's microphone asks in this form. The body is wrapped into the form that OpenAI's transcription path
takes while it arrives, and goes on from there as any other request: keys, limits, routing, errors.
"""

import secrets
from collections.abc import Awaitable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from msp_common.error_response import error_response
from msp_common.errors import InvalidRequest, MethodNotAllowed, NotFound
from msp_common.model_ids import InvalidModelId, parse_model_id
from msp_common.request_ids import HEADER, request_id_for

PREFIX = "/hf-inference/models/"
TRANSCRIPTIONS = "/v1/audio/transcriptions"

_PART = (
    '--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n'
    '--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
    "Content-Type: {media_type}\r\n\r\n"
)
_SUFFIXES = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "x-m4a": "m4a", "mp4": "m4a", "x-flac": "flac"}


class HfInference:
    """ASGI middleware around the relayed paths."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one ASGI connection. No coroutine of its own around those that it only lets pass."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            return self.app(scope, receive, send)
        return self._take(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            form = _form_for(scope)
        except (InvalidRequest, MethodNotAllowed, NotFound) as error:
            response = error_response(error)
            if isinstance(error, MethodNotAllowed):
                response.headers["Allow"] = "POST"
            response.headers[HEADER] = request_id_for(dict(scope["headers"]))
            await response(scope, receive, send)
        else:
            await self.app(form.scope(scope), form.around(receive), send)


@dataclass(frozen=True)
class _Form:
    """What stands before and after the recording."""

    boundary: str
    before: bytes

    @property
    def after(self) -> bytes:
        return f"\r\n--{self.boundary}--\r\n".encode()

    def scope(self, scope: Scope) -> Scope:
        """The request as one for transcriptions."""
        changed = {**scope, "path": TRANSCRIPTIONS, "raw_path": TRANSCRIPTIONS.encode(), "query_string": b""}
        headers = MutableHeaders(raw=list(scope["headers"]))
        headers["content-type"] = f"multipart/form-data; boundary={self.boundary}"
        length = headers.get("content-length", "")
        if length.isdigit():
            headers["content-length"] = str(int(length) + len(self.before) + len(self.after))
        changed["headers"] = headers.raw
        return changed

    def around(self, receive: Receive) -> Receive:
        """The body with the form's beginning and end."""
        opening, ended = self.before, False

        async def wrapped() -> Message:
            nonlocal opening, ended
            message = await receive()
            if message["type"] != "http.request" or ended:
                return message
            body, opening = opening + message.get("body", b""), b""
            ended = not message.get("more_body", False)
            return {**message, "body": body + self.after if ended else body}

        return wrapped


def _form_for(scope: Scope) -> _Form:
    named = scope["path"].removeprefix(PREFIX)
    if scope["method"] != "POST":
        raise MethodNotAllowed(f"{PREFIX}{{model}} does not answer {scope['method']}, only POST.")
    try:
        model = parse_model_id(named)
    except InvalidModelId as error:
        raise NotFound(f"No such route: {PREFIX}{{model}}: {error}.") from None
    content_type = Headers(scope=scope).get("content-type", "application/octet-stream")
    media_type = content_type.partition(";")[0].strip()
    kind, _, subtype = media_type.partition("/")
    fine = subtype.replace("-", "").replace(".", "").isalnum() and subtype.isascii()
    if not fine or kind not in ("audio", "video", "application") or subtype == "json":
        raise InvalidRequest(
            f"The body must be a recording, with a Content-Type like audio/webm; it was {media_type[:80]!r}.",
            param="content-type",
            code="invalid_value",
        )
    filename = f"recording.{_SUFFIXES.get(subtype, subtype)}" if kind != "application" else "recording"
    boundary = secrets.token_hex(16)
    part = _PART.format(boundary=boundary, model=model, filename=filename, media_type=media_type)
    return _Form(boundary, part.encode())
