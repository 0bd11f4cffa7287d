"""The client's JSON on its way to the server."""

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from msp_common.errors import InvalidRequest

T = TypeVar("T")
_NULL = msgspec.Raw(b"null")


class _Fields(msgspec.Struct):
    """What the worker reads itself; all other fields are passed over."""

    model: msgspec.Raw = _NULL
    stream: msgspec.Raw = _NULL
    stream_options: msgspec.Raw = _NULL
    messages: msgspec.Raw = _NULL


@dataclass(frozen=True)
class JsonBody:
    """A request as the client wrote it."""

    raw: bytes
    model: str | None
    stream: bool
    wants_usage: bool
    """Whether the client asked for the usage at the stream's end."""
    has_messages: bool = False

    def for_server(self, model_name: str, *, counted: bool) -> bytes:
        """The body with the server's name for the model; every other value stays byte for byte.

        `counted` asks a stream for its usage too: without it the tokens of a stream are known to nobody.
        """
        asks_usage = self.stream and counted and not self.wants_usage
        if self.model == model_name and not asks_usage:
            return self.raw
        fields = msgspec.json.decode(self.raw, type=dict[str, msgspec.Raw])
        fields["model"] = msgspec.Raw(msgspec.json.encode(model_name))
        if asks_usage:
            options = _decoded(fields.get("stream_options", _NULL), dict[str, msgspec.Raw], "stream_options")
            wanted = {**(options or {}), "include_usage": msgspec.Raw(b"true")}
            fields["stream_options"] = msgspec.Raw(msgspec.json.encode(wanted))
        return msgspec.json.encode(fields)


def read_body(raw: bytes) -> JsonBody:
    """Raises InvalidRequest for what is no JSON object, or has fields of a wrong type among those read."""
    if not raw.strip():
        raise InvalidRequest("The request has no body; a JSON object is needed.", code="invalid_json")
    try:
        fields = msgspec.json.decode(raw, type=_Fields)
    except msgspec.ValidationError:
        raise InvalidRequest("The body is JSON, but not an object.", code="invalid_json") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    options: dict[str, Any] | None = _decoded(fields.stream_options, dict[str, Any], "stream_options")
    return JsonBody(
        raw=raw,
        model=_decoded(fields.model, str, "model") or None,
        stream=bool(_decoded(fields.stream, bool, "stream")),
        wants_usage=(options or {}).get("include_usage") is True,
        has_messages=bytes(fields.messages) != b"null",
    )


def _decoded(raw: msgspec.Raw, wanted: type[T], name: str) -> T | None:
    try:
        value: T | None = msgspec.json.decode(raw, type=wanted | None)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest(
            f"Invalid value for '{name}': it has the wrong type.", param=name, code="invalid_value"
        ) from None
    return value
