"""What an answer itself tells of its tokens: for servers that are none of our workers and send no reports.

Nothing is parsed on the way: the answer's two ends are kept, and looked through once it is over. What stands
there is what the server wrote, so it is believed within limits and never trusted to be there.
"""

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

TAIL_BYTES = 4096
"""Servers write `usage` last, but for a few short fields; a stream's is in the last event before the end."""
HEAD_BYTES = 1024
"""Some (llama-server's embeddings) write it first."""

_USAGE = re.compile(r'"usage"\s*:\s*(?=\{)')
"""Not within content: a quotation mark inside a JSON string stands behind a backslash."""
_AROUND = 2
"""Data events of a stream of chat that hold no token: the role's, and the one that says why it ended."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=2**31)]


@dataclass(frozen=True)
class Told:
    """Tokens of one answer. Null is what is not known, or has no meaning for it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    audio_s: float | None = None
    estimated: bool = False
    """Whether the answer's events were counted, since no figures were among them."""


class _Usage(msgspec.Struct):
    """Chat, completions and embeddings say `prompt_tokens`; responses and transcriptions `input_tokens`."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    seconds: _Seconds | None = None


class Listening:
    """Keeps the ends of an answer while it passes, and counts its events where it is a stream of them."""

    def __init__(self, *, streams: bool) -> None:
        self._streams = streams
        self._head = b""
        self._tail: list[bytes] = []
        self._tail_size = 0
        self._events = 0

    @property
    def kept_bytes(self) -> int:
        """Never more than a few times the limits."""
        return len(self._head) + self._tail_size

    def heard(self, part: bytes) -> None:
        """The next bytes that were passed on; of a stream whole events."""
        if len(self._head) < HEAD_BYTES:
            self._head += part[: HEAD_BYTES - len(self._head)]
        if self._streams:
            # A data event is one line; within JSON there is no line end.
            self._events += part.count(b"\ndata:") + part.startswith(b"data:")
        self._tail.append(part[-TAIL_BYTES:])
        self._tail_size += len(self._tail[-1])
        if self._tail_size > 4 * TAIL_BYTES:
            self._tail = [self._end()]
            self._tail_size = len(self._tail[0])

    def told(self, *, done: bool = True) -> Told | None:
        """What is known now that the answer is over; `done` says whether a stream reached its `[DONE]`."""
        found = usage_in(self._end()) or usage_in(self._head)
        if found is not None or not self._streams:
            return found
        return estimated(self._events - done)

    def _end(self) -> bytes:
        return b"".join(self._tail)[-TAIL_BYTES:]


def usage_in(text: bytes) -> Told | None:
    """The last figures in a piece of an answer, which may begin and end anywhere."""
    written = text.decode(errors="replace")
    for place in reversed([match.end() for match in _USAGE.finditer(written)]):
        if (found := _read(written, place)) is not None:
            return found
    return None


def estimated(data_events: int) -> Told | None:
    """A server sends an event for each token, as a rule, and some around them; null where none was sent."""
    tokens = data_events - _AROUND
    return Told(completion_tokens=tokens, estimated=True) if tokens > 0 else None


def _read(written: str, place: int) -> Told | None:
    try:
        value: Any = json.JSONDecoder().raw_decode(written, place)[0]
        usage = msgspec.convert(value, _Usage)
    except (ValueError, RecursionError):
        return None
    prompt = usage.input_tokens if usage.prompt_tokens is None else usage.prompt_tokens
    completion = usage.output_tokens if usage.completion_tokens is None else usage.completion_tokens
    if prompt is None and completion is None and usage.seconds is None:
        return None
    return Told(prompt, completion, usage.seconds)
