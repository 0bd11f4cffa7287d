"""The server's event stream on its way to the client: whole events, our name of the model, a certain end."""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import msgspec

from msp_common import sse
from msp_common.errors import ApiError, UpstreamFailed
from msp_model_service.engines.external.answer_fields import Usage, renamed
from msp_model_service.engines.external.error_translation import said, translated

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""A server that never ends an event must not fill the memory."""

_DONE = b"[DONE]"
_LAST_TYPES = (
    "transcript.text.done",
    "response.completed",
    "response.incomplete",
    "response.failed",
)
_TOKEN_TYPE = re.compile(r"response\..+\.delta")
_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    text: str | None = None
    delta: dict[str, msgspec.Raw] | None = None

    @property
    def has_tokens(self) -> bool:
        """Whether the event brings something that the model wrote."""
        empty = (b"null", b'""', b"[]")
        return bool(self.text) or any(
            bytes(value) not in empty for name, value in (self.delta or {}).items() if name != "role"
        )


class _Response(msgspec.Struct):
    usage: Usage | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Usage | None = None
    type: str | None = None
    """Of the events of transcriptions and responses."""
    response: _Response | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True)
class Passed:
    """One event for the client. `frame` is empty where it is not meant for it."""

    frame: bytes
    tokens: int = 0
    """Events of text in it: a token each, as servers send them."""
    usage: Usage | None = None


class AnswerEvents:
    """Reads the chunks of one stream."""

    def __init__(self, *, model_name: str, model_id: str, wants_usage: bool) -> None:
        self._model_name = model_name
        self._model_id = model_id
        self._wants_usage = wants_usage
        self._held = b""
        self._begun = False
        self._finished = False
        self.done = False
        """Whether `[DONE]` was passed on: what comes after it is nobody's."""

    def feed(self, chunk: bytes) -> list[Passed]:
        """The events that `chunk` completes. Raises ApiError for an error event and for what is none."""
        data = self._held + chunk
        # Only what is new can bring an end, but for one that the last cut went through.
        begin, look = 0, max(0, len(self._held) - 3)
        events = []
        while not self.done and (end := _END.search(data, look)):
            events.append(self._passed(data[begin : end.end()]))
            begin = look = end.end()
        self._held = data[begin:]
        if len(self._held) > MAX_EVENT_BYTES:
            raise UpstreamFailed("The model's server sent an event without an end.")
        return [event for event in events if event.frame or event.tokens or event.usage]

    def end(self) -> list[Passed]:
        """What is missing at the stream's end. Raises UpstreamFailed where that came too early.

        Some servers never say `[DONE]`; without a finish reason before it, the end is a failure.
        """
        if self.done:
            return []
        if not self._finished or self._held.strip():
            raise UpstreamFailed("The model's server ended its answer early.")
        self.done = True
        return [Passed(sse.DONE)]

    def _passed(self, event: bytes) -> Passed:
        lines = event.splitlines()
        data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
        if not data:
            return Passed(event)  # a comment that keeps the connection alive
        if data.strip() == _DONE:
            # llama-cpp-python's server ends a stream so that it broke off for another request.
            if self._begun and not self._finished:
                raise UpstreamFailed("The model's server ended its answer early.")
            self.done = True
            return Passed(sse.DONE)
        try:
            chunk = msgspec.json.decode(data, type=_Chunk)
        except msgspec.ValidationError:
            return Passed(event)  # JSON of another shape than we know, and the client may know it
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UpstreamFailed("The model's server sent an event that is no JSON.") from None
        if bytes(chunk.error) != b"null":
            raise _error_in_stream(bytes(chunk.error), self._model_name, self._model_id)
        choices = chunk.choices or []
        self._begun |= bool(choices)
        self._finished |= any(choice.finish_reason for choice in choices)
        self._finished |= chunk.type in _LAST_TYPES
        tokens = sum(choice.has_tokens for choice in choices)
        if chunk.type is not None and _TOKEN_TYPE.fullmatch(chunk.type):
            tokens = 1
        if chunk.usage is not None and chunk.choices == [] and not self._wants_usage:
            return Passed(b"", tokens, chunk.usage)  # it was asked for by us alone
        changed = renamed(data, self._model_name, self._model_id)
        if changed is not data:
            others = [line for line in lines if line and not line.startswith(b"data:")]
            event = b"\n".join([*others, b"data: " + changed, b"", b""])
        return Passed(event, tokens, chunk.usage or (chunk.response.usage if chunk.response else None))


def _error_in_stream(raw: bytes, model_name: str, model_id: str) -> ApiError:
    value = msgspec.json.decode(raw)
    code = value.get("code") if isinstance(value, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    text = said({"error": value}).message
    return translated(status, text.encode(), model_name=model_name, model_id=model_id)


async def events_of(
    chunks: AsyncGenerator[bytes, None], reader: AnswerEvents
) -> AsyncGenerator[Passed, None]:
    """The events of a whole stream, `[DONE]` the last. Raises ApiError."""
    async for chunk in chunks:
        for event in reader.feed(chunk):
            yield event
        if reader.done:
            return
    for event in reader.end():
        yield event
