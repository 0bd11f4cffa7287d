"""Events written by `frame` are read back by `read`; comments and unterminated events are not events."""

from collections.abc import AsyncIterator

from msp_common import sse


async def lines(text: str) -> AsyncIterator[str]:
    for line in text.splitlines():
        yield line


async def test_what_is_framed_is_read_back() -> None:
    text = (sse.frame("one") + b": keep-alive\n\n" + sse.frame("two", event="e", id="7")).decode()
    assert [e async for e in sse.read(lines(text))] == [sse.Event("one"), sse.Event("two", "e", "7")]


async def test_an_unterminated_last_event_is_dropped() -> None:
    assert [e.data async for e in sse.read(lines("data: a\n\ndata: b"))] == ["a"]
