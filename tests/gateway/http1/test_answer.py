"""What is taken for an answer, what is no HTTP, and where an answer ends."""

from itertools import pairwise

import pytest

from msp_gateway.http1.answer import MAX_FIELDS, MAX_HEAD_BYTES, PIECE_BYTES, AnswerParser
from msp_gateway.upstream import UpstreamGarbage

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nX-A: 2\r\n\r\nhello"


def parsed(data: bytes, step: int | None = None) -> tuple[AnswerParser, bytes]:
    """The parser after these bytes, fed `step` at a time, and the body that it gave."""
    parser, body = AnswerParser(), b""
    cuts = [*range(0, len(data), step or len(data)), len(data)]
    for start, end in pairwise(cuts):
        parser.feed(data[start:end])
        body += parser.take()
    return parser, body


@pytest.mark.parametrize("step", [None, 1, 7])
def test_however_the_bytes_are_cut_the_answer_is_the_same(step: int | None) -> None:
    parser, body = parsed(LONG, step)
    assert (parser.status, body, parser.complete, parser.reusable) == (200, b"hello", True, True)
    assert parser.headers == [(b"content-length", b"5"), (b"x-a", b"1"), (b"x-a", b"2")]


@pytest.mark.parametrize("step", [None, 1])
def test_chunks_are_joined_and_trailers_dropped(step: int | None) -> None:
    data = CHUNKED + b"2\r\nhe\r\n3;ext=1\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n"
    parser, body = parsed(data, step)
    assert (body, parser.complete, parser.reusable) == (b"hello", True, True)
    assert parser.headers == [(b"transfer-encoding", b"chunked")]


def test_much_of_a_body_is_given_piece_by_piece() -> None:
    events = [b"%05d" % number * 20 for number in range(5000)]
    parser = AnswerParser()
    parser.feed(CHUNKED + b"".join(b"64\r\n%s\r\n" % event for event in events))
    pieces = []
    while parser.buffered_bytes:
        pieces.append(parser.take())
    assert b"".join(pieces) == b"".join(events)
    assert len(pieces) > 5
    assert max(map(len, pieces)) < PIECE_BYTES + 100


def test_informational_answers_are_skipped() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    parser, body = parsed(early + LONG)
    assert (parser.status, body) == (200, b"hello")
    assert (b"link", b"</a>") not in parser.headers


def test_an_answer_without_a_length_ends_with_the_connection_and_only_then() -> None:
    parser, body = parsed(b"HTTP/1.1 200 OK\r\n\r\nhel")
    assert (body, parser.complete) == (b"hel", False)
    assert parser.end()
    assert parser.complete
    assert not parser.reusable


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 200 OK\r\nContent-Le", LONG[:-1], CHUNKED + b"2\r\nhe\r\n", CHUNKED, b""]
)
def test_an_early_end_is_no_end(data: bytes) -> None:
    parser = AnswerParser()
    if data:
        parser.feed(data)
    assert not parser.end()


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_that_have_no_body_end_with_their_head(status: bytes) -> None:
    parser, body = parsed(b"HTTP/1.1 " + status + b"\r\n\r\n")
    assert (body, parser.complete, parser.reusable) == (b"", True, True)


@pytest.mark.parametrize("data", [LONG + b"HTTP/1.1 200 OK\r\n", LONG + b"x"])
def test_a_connection_with_more_than_the_answer_is_not_used_again(data: bytes) -> None:
    parser, body = parsed(data)
    assert (body, parser.complete, parser.reusable) == (b"hello", True, False)


def test_bytes_after_the_answer_that_come_later_count_too() -> None:
    parser, _ = parsed(LONG)
    assert parser.reusable
    parser.feed(b"\r\n")
    assert not parser.reusable


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_a_connection_that_will_be_closed_is_not_used_again(data: bytes) -> None:
    parser, body = parsed(data)
    assert (body, parser.complete, parser.reusable) == (b"hello", True, False)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 999 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX Y: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n\r\n",
        CHUNKED + b"zz\r\nhello",
        CHUNKED + b"ffffffffffffffffff\r\n",
        CHUNKED + b"2\r\nhello\r\n",
    ],
)
def test_what_is_no_http_is_garbage(data: bytes) -> None:
    with pytest.raises(UpstreamGarbage):
        parsed(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * (MAX_FIELDS + 9), id="many"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * MAX_HEAD_BYTES, id="long"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 4000, id="for ever informational"),
        pytest.param(CHUNKED + b"0\r\n" + b"X-A: 1\r\n" * (MAX_FIELDS + 9), id="trailers"),
    ],
)
def test_a_head_without_end_is_garbage(data: bytes) -> None:
    with pytest.raises(UpstreamGarbage):
        parsed(data, 1000)


def test_fields_of_all_heads_and_of_trailers_are_counted_together() -> None:
    field = b"X-A: " + b"x" * (MAX_HEAD_BYTES * 2 // 3) + b"\r\n"
    informational = b"HTTP/1.1 100 Continue\r\n" + field + b"\r\n"
    with pytest.raises(UpstreamGarbage):
        parsed(informational + b"HTTP/1.1 200 OK\r\n" + field + b"\r\n", len(informational))
    head = CHUNKED[:-2] + field + b"\r\n"
    with pytest.raises(UpstreamGarbage):
        parsed(head + b"0\r\n" + field + b"\r\n", len(head))
