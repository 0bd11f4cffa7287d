"""Event streams pass in whole events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msp_gateway.events import MAX_HELD_BYTES, EventStream


def test_a_whole_event_passes_at_once() -> None:
    stream = EventStream()
    assert stream.feed(b"data: 1\n\n") == b"data: 1\n\n"
    assert stream.rest() == b""


def test_half_an_event_waits_for_its_end() -> None:
    stream = EventStream()
    assert stream.feed(b"data: 1\n\ndata: 2") == b"data: 1\n\n"
    assert stream.feed(b"3\n") == b""
    assert stream.feed(b"\n") == b"data: 23\n\n"


def test_events_that_end_with_crlf_are_known_too() -> None:
    stream = EventStream()
    assert stream.feed(b"data: 1\r\n\r\ndata: 2\r\n") == b"data: 1\r\n\r\n"


@pytest.mark.parametrize(
    "chunks", [[b"data: [DONE]\n\n"], [b"data: [DO", b"NE]\n", b"\n"], [b"data: [DONE]\r\n\r\n"]]
)
def test_the_last_event_is_recognised(chunks: list[bytes]) -> None:
    stream = EventStream()
    for chunk in chunks:
        assert not stream.done
        stream.feed(chunk)
    assert stream.done


def test_an_endless_event_is_not_held_for_ever() -> None:
    stream = EventStream()
    assert stream.feed(b"x" * MAX_HELD_BYTES) == b""
    assert len(stream.feed(b"x")) == MAX_HELD_BYTES + 1


@given(st.lists(st.sampled_from([b"data: 1", b"\n", b"\r\n", b"\n\n", b": c", b"x"])))
def test_no_byte_is_lost_or_added(chunks: list[bytes]) -> None:
    stream = EventStream()
    assert b"".join([stream.feed(chunk) for chunk in chunks] + [stream.rest()]) == b"".join(chunks)
