"""Server-sent events: framing and reading, as the WHATWG specification defines them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Sent with every stream: no proxy may keep or hold back events."""

DONE = b"data: [DONE]\n\n"
"""What ends a stream of OpenAI's."""


def frame(data: str, *, event: str | None = None, id: str | None = None) -> bytes:
    """One event. `data` is one line, as JSON written without indentation always is."""
    head = (f"id: {id}\n" if id else "") + (f"event: {event}\n" if event else "")
    return f"{head}data: {data}\n\n".encode()


@dataclass(frozen=True)
class Event:
    """One event as read: its type (`message` unless named), data and id."""

    data: str
    event: str = "message"
    id: str | None = None


async def read(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """Events from decoded lines (`httpx.Response.aiter_lines`). An unterminated last event is dropped."""
    data: list[str] = []
    event, event_id = "message", None
    async for line in lines:
        if not line:
            if data:
                yield Event("\n".join(data), event, event_id)
            data, event = [], "message"
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            event = value
        elif field == "id":
            event_id = value
