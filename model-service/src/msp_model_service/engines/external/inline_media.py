"""Media must be in the request itself: a server would open whatever address or path it is given.

Servers differ in what they open (`http:` from any host, `file:`, plain paths) and in how a part names it
(`image_url`, `image`, `source`). So every text in a part that is no plain text has to be a `data:` URL,
unless its key says that it is something else.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msp_common.errors import InvalidRequest

_PLAIN_TYPES = frozenset(
    {"text", "input_text", "output_text", "refusal", "thinking", "reasoning", "reasoning_text"}
)
_HARMLESS_KEYS = frozenset({"type", "text", "detail", "format", "data", "media_type", "id", "uuid", "name"})
_MEDIA_KEY = re.compile(r"(?i)url|image|video|audio|path|file|source")


def check_media(raw: bytes) -> None:
    """Raises InvalidRequest naming the first value that leads elsewhere, or where that cannot be told."""
    messages = read_unambiguous(raw).get("messages") or []
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        raise InvalidRequest(
            "Invalid value for 'messages': expected a list of objects.",
            param="messages",
            code="invalid_value",
        )
    for index, message in enumerate(messages):
        check_parts(message.get("content"), f"messages.{index}.content")


def read_unambiguous(raw: bytes) -> Mapping[str, Any]:
    """The body, which is known to be an object. Raises InvalidRequest.

    Of a key that stands twice in an object, parsers take the first or the last: the server might then see
    another value than the one looked at here, so that is refused.
    """
    try:
        body: Mapping[str, Any] = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The body cannot be used: {error}.", code="invalid_json") from None
    return body


def check_parts(content: Any, place: str) -> None:
    """The same for the content of one message, which stands at `place`."""
    parts = [content] if isinstance(content, Mapping) else content
    for number, part in enumerate(parts if isinstance(parts, list) else ()):
        for leading in _leading_elsewhere(part):
            param = f"{place}.{number}.{leading}"
            raise InvalidRequest(
                f"Invalid value for '{param}': only data: URLs are taken; nothing is fetched.",
                param=param,
                code="invalid_image_url" if "image" in leading else "invalid_value",
            )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _leading_elsewhere(part: Any) -> Iterator[str]:
    if not isinstance(part, Mapping):
        return
    plain = part.get("type") in _PLAIN_TYPES
    for keys, text in _texts(part, ()):
        if keys[-1] in _HARMLESS_KEYS or text[:5].lower() == "data:":
            continue
        if not plain or any(_MEDIA_KEY.search(key) for key in keys):
            yield ".".join(keys)


def _texts(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield keys, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*keys, str(key)))
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner, keys)
