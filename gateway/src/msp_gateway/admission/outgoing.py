"""An answer on its way out: with header fields that admission adds, and begun early where a client wants it.

While its request waits, a client that asked for events is told of the queue by comments of an event stream.
The answer's status is 200 from then on: an error that comes later is an event of the stream, as it is when a
worker breaks off.
"""

from collections.abc import Awaitable, Mapping

import msgspec
from starlette.types import Message, Send

from msp_common.request_ids import HEADER
from msp_common.sse import MEDIA_TYPE
from msp_gateway.error_answers import enveloped
from msp_gateway.events import is_event_stream
from msp_gateway.headers import value_of
from msp_gateway.upstream import RawHeaders

FIELD = b"x-msp-queue-events"


def wants_events(fields: Mapping[bytes, bytes]) -> bool:
    """Whether the client asked for comments while it waits, by its header fields."""
    return fields.get(FIELD, b"").strip() == b"1"


class Outgoing:
    """A `send` in front of the server's own."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.fields: RawHeaders = ()
        """Added to the answer's head; may be set until the answer begins."""
        self._begun = False
        self._status: int | None = None
        self._whole: list[bytes] = []

    def __call__(self, message: Message) -> Awaitable[None]:
        """Send one ASGI message. No coroutine of its own: this is called for every part of a stream."""
        if self._begun:
            return self._within(message)
        if self.fields and message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *self.fields]}
        return self._send(message)

    async def tell_waiting(self, position: int, wait_s: float | None) -> None:
        """A comment with the position in the queue, and the expected wait where it is known."""
        if not self._begun:
            self._begun = True
            fields = [
                (b"content-type", MEDIA_TYPE.encode()),
                (b"cache-control", b"no-cache"),
                (HEADER.encode(), self._request_id.encode()),
                *self.fields,
            ]
            await self._send({"type": "http.response.start", "status": 200, "headers": fields})
        expected = "" if wait_s is None else f" expected-wait-s={wait_s:.1f}"
        await self._part(f": queued position={position}{expected}\n\n".encode(), more=True)

    async def _within(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kind = value_of(message["headers"], b"content-type")
            # An answer that is no stream cannot be passed on as it comes: it becomes one event.
            is_stream = message["status"] < 400 and is_event_stream(kind)
            self._status = None if is_stream else message["status"]
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._status is None:
            await self._part(body, more=more)
            return
        self._whole.append(body)
        if not more:
            await self._part(_one_event(self._status, b"".join(self._whole)), more=False)

    async def _part(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


def _one_event(status: int, body: bytes) -> bytes:
    if status >= 400:
        body = enveloped(status, body)
    # On one line, whatever the worker's layout was.
    return b"data: " + msgspec.json.format(body, indent=-1) + b"\n\ndata: [DONE]\n\n"
