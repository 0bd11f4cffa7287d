"""What routing needs of a request: its `model` and whether it streams. All else goes on unread."""

from collections.abc import Iterator
from typing import Protocol, TypeVar

import msgspec
from starlette.types import Receive

from msp_common.errors import InvalidRequest
from msp_gateway.body import Body, MemoryBody, read_parts
from msp_gateway.fields import Fields

T = TypeVar("T")
_NULL = msgspec.Raw(b"null")


class Head(msgspec.Struct):
    """`model` as the client wrote it; None when it is absent, null or empty."""

    model: str | None = None
    stream: bool = False


class ClientRequest(Protocol):
    """One request, read to its end."""

    @property
    def head(self) -> Head:
        """What routing needs of it."""

    @property
    def text_bytes(self) -> int:
        """The length of what tokens are made of. What a recording has of bytes says nothing of them: 0."""

    def body_for(self, model_id: str) -> Body:
        """The client's own bytes; where the model was named otherwise or not, with the id written in."""

    def close(self) -> None:
        """Give up what holds the body."""


class _JsonHead(msgspec.Struct):
    """Other fields are skipped without building objects; the two are decoded on their own to name them."""

    model: msgspec.Raw = _NULL
    stream: msgspec.Raw = _NULL


_head = msgspec.json.Decoder(Head)


class JsonRequest:
    """A request whose body is one JSON object; itself the body as it arrived."""

    __slots__ = ("_parts", "head", "size_bytes")

    def __init__(self, parts: list[bytes]) -> None:
        """Raises InvalidRequest for what is no JSON object, or has a `model` or `stream` of a wrong type."""
        self._parts = parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self.head = _json_head(body)
        self.size_bytes = len(body)

    @property
    def text_bytes(self) -> int:
        """The length of what tokens are made of: of all of it."""
        return self.size_bytes

    def chunks(self) -> Iterator[bytes]:
        """The client's own bytes."""
        return iter(self._parts)

    def body_for(self, model_id: str) -> Body:
        """The client's own bytes; where the model was named otherwise or not, with the id written in."""
        if model_id == self.head.model:
            return self
        # Every value but the model's stays byte for byte what the client wrote.
        fields = msgspec.json.decode(b"".join(self._parts), type=dict[str, msgspec.Raw])
        named = {**fields, "model": msgspec.Raw(msgspec.json.encode(model_id))}
        return MemoryBody([msgspec.json.encode(named)])

    def close(self) -> None:
        """Nothing to give up: the body is in memory."""


async def read_json(receive: Receive, fields: Fields, limit_bytes: int) -> JsonRequest:
    """Raises InvalidRequest, PayloadTooLarge and ClientLeft."""
    return JsonRequest(await read_parts(receive, limit_bytes, fields.get(b"content-length")))


def _json_head(body: bytes) -> Head:
    try:
        head = _head.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _judged_head(body)
    if not head.model:
        head.model = None
    return head


def _judged_head(body: bytes) -> Head:
    """With words for what is wrong."""
    if not body.strip():
        raise InvalidRequest("The request has no body; a JSON object is needed.", code="invalid_json")
    try:
        head = msgspec.json.decode(body, type=_JsonHead)
    except msgspec.ValidationError:
        raise InvalidRequest("The body is JSON, but not an object.", code="invalid_json") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    model = _field(head.model, str, "model", "a string")
    return Head(model or None, bool(_field(head.stream, bool, "stream", "true or false")))


def _field(raw: msgspec.Raw, wanted: type[T], name: str, expected: str) -> T | None:
    try:
        value: T | None = msgspec.json.decode(raw, type=wanted | None)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest(
            f"Invalid value for '{name}': expected {expected}.", param=name, code="invalid_value"
        ) from None
    return value
