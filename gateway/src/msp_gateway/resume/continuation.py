"""The request that lets another replica go on with a stream. Pure."""

import msgspec

from msp_gateway.body import Body, MemoryBody
from msp_gateway.head import ClientRequest, Head
from msp_gateway.headers import value_of
from msp_gateway.resume.delivered import CannotResume, Delivered
from msp_gateway.upstream import RawHeaders

PATHS = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Whose streams can be gone on with."""

_CONTINUES = b"x-msp-continues"


class _Options(msgspec.Struct):
    include_usage: bool | None = None


class _Asked(msgspec.Struct):
    stream_options: _Options | None = None


class Continuation:
    """A client's request, with what there is of its answer written in. A ClientRequest."""

    def __init__(self, request: ClientRequest, delivered: Delivered) -> None:
        """Raises CannotResume where the client itself goes on with another answer."""
        self._request = request
        self._delivered = delivered
        if "continue" in _fields(request, request.head.model or ""):
            raise CannotResume("its request goes on with another one already")

    @property
    def head(self) -> Head:
        """As of the client's."""
        return self._request.head

    @property
    def text_bytes(self) -> int:
        """As of the client's."""
        return self._request.text_bytes

    def body_for(self, model_id: str) -> Body:
        """The client's own body, with `continue` where an event was sent."""
        there = self._delivered
        if not there.id:
            return self._request.body_for(model_id)
        told = {
            "id": there.id,
            "created": there.created,
            "token_ids": there.token_ids,
            "content": there.content,
            "reasoning_content": there.reasoning_content,
            "finished": there.finished,
        }
        fields = {**_fields(self._request, model_id), "continue": msgspec.Raw(msgspec.json.encode(told))}
        return MemoryBody([msgspec.json.encode(fields)])

    def continued_by(self, answer: RawHeaders) -> bool:
        """Whether an answer goes on: a worker that does not know `continue` begins from the start."""
        return not self._delivered.id or value_of(answer, _CONTINUES) == b"1"

    def close(self) -> None:
        """Nothing: the client's request is closed by whoever read it."""


def lacks_its_end_only(request: ClientRequest, delivered: Delivered) -> bool:
    """Whether `[DONE]` is all that the client still waits for."""
    if delivered.usage or not delivered.finished:
        return delivered.usage
    options = msgspec.json.decode(_body(request, request.head.model or ""), type=_Asked).stream_options
    return options is None or not options.include_usage


def _fields(request: ClientRequest, model_id: str) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(_body(request, model_id), type=dict[str, msgspec.Raw])


def _body(request: ClientRequest, model_id: str) -> bytes:
    return b"".join(request.body_for(model_id).chunks())
