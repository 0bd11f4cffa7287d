"""What a client has of a stream, read from the bytes that it was sent. Pure; used only when a worker died.

Our workers, asked to, tell the ids of a stream's tokens in comments (`: t 12,345`), before the event with the
tokens' text. So the ids are never behind the text, and a replica that takes them for its own knows all
that the client has, and what was held back of it: half a character, the beginning of a stop sequence.
"""

from dataclasses import dataclass, field

import msgspec

_IDS = b": t "
_DATA = b"data:"
_DONE = b"[DONE]"


class CannotResume(Exception):
    """Nobody can go on with the stream; says why."""


@dataclass
class Delivered:
    """What a client has of a stream."""

    id: str = ""
    """Empty while no event was sent: a stream that begins anew is then as good."""
    created: int = 0
    token_ids: list[int] = field(default_factory=list)
    content: int = 0
    """Characters of content, or of text."""
    reasoning_content: int = 0
    finished: bool = False
    """Whether it knows why the answer ended."""
    usage: bool = False
    """Whether it has the usage."""


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta = msgspec.field(default_factory=_Delta)
    text: str = ""
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    id: str = ""
    created: int = 0
    choices: list[_Choice] = []
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_chunk = msgspec.json.Decoder(_Chunk)


def read_delivered(passed: bytes) -> Delivered:
    """What whole events tell. Raises CannotResume."""
    if passed and not passed.endswith((b"\n\n", b"\r\n\r\n")):
        raise CannotResume("half an event was sent")
    found = Delivered()
    for line in passed.splitlines():
        if line.startswith(_IDS):
            found.token_ids += _ids(line[len(_IDS) :])
        elif line.startswith(_DATA):
            data = line[len(_DATA) :].strip()
            if data == _DONE:
                raise CannotResume("it has ended")
            _add(found, data)
        elif line and not line.startswith(b":"):
            raise CannotResume("its events are not those of our workers")
    if found.id and not found.token_ids:
        raise CannotResume("its worker told no token ids")
    return found


def _ids(text: bytes) -> list[int]:
    try:
        return [int(one) for one in text.split(b",")]
    except ValueError:
        raise CannotResume("its token ids are not numbers") from None


def _add(found: Delivered, data: bytes) -> None:
    try:
        chunk = _chunk.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise CannotResume("its events are not those of our workers") from None
    if _given(chunk.error):
        raise CannotResume("it has ended with an error")
    if not chunk.id or chunk.id != (found.id or chunk.id):
        raise CannotResume("its events do not have one id")
    found.id, found.created = chunk.id, chunk.created
    found.usage = found.usage or _given(chunk.usage)
    for choice in chunk.choices:
        if choice.index or _given(choice.delta.tool_calls):
            raise CannotResume("it has several choices, or tool calls")
        found.content += len(choice.delta.content or "") + len(choice.text)
        found.reasoning_content += len(choice.delta.reasoning_content or "")
        found.finished = found.finished or choice.finish_reason is not None


def _given(value: msgspec.Raw) -> bool:
    return bytes(value) not in (b"", b"null")
