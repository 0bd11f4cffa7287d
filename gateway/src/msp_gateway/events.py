"""A worker's event stream on its way through: only whole events are passed on."""

import msgspec

from msp_common.errors import ApiError
from msp_common.sse import MEDIA_TYPE, frame

_MEDIA_TYPE = MEDIA_TYPE.encode()
_ENDS = (b"\n\n", b"\r\n\r\n")
_DONE = b"data: [DONE]"
_NEAR_END = len(_DONE) + 8
MAX_HELD_BYTES = 1024 * 1024
"""An event longer than this is passed on in pieces."""


class EventStream:
    """Holds back the beginning of an event until its end is there.

    Readers act on an event only at its end, so nothing is delayed; and when the worker breaks off, an error
    event can follow without being taken for a part of the unfinished one.
    """

    def __init__(self) -> None:
        self._held = b""
        self.done = False

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that may go on now; empty when no event has ended."""
        if not self._held and chunk.endswith(_ENDS):
            if _DONE in chunk[-_NEAR_END:]:
                self.done = True
            return chunk
        data = self._held + chunk
        if data.endswith(_ENDS):
            end = len(data)
        else:
            end = max(data.rfind(mark) + len(mark) if mark in data else 0 for mark in _ENDS)
        if end == 0 and len(data) > MAX_HELD_BYTES:
            end = len(data)
        self._held = data[end:]
        self.done = self.done or _DONE in data[:end][-_NEAR_END:]
        return data[:end]

    def rest(self) -> bytes:
        """What was held back when the stream ended well: passed on unchanged."""
        return self._held


def is_event_stream(content_type: bytes | None) -> bool:
    """Whether an answer of this type is a stream of events."""
    return content_type is not None and content_type.lower().startswith(_MEDIA_TYPE)


def error_event(error: ApiError) -> bytes:
    """What the official clients raise as an error in the middle of a stream."""
    return frame(msgspec.json.encode(error.envelope()).decode())
