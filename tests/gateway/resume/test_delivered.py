"""Reading what a client has of a stream, and the request for the rest."""

import json
from typing import Any

import pytest

from msp_gateway.head import JsonRequest
from msp_gateway.resume.continuation import Continuation, lacks_its_end_only
from msp_gateway.resume.delivered import CannotResume, Delivered, read_delivered
from msp_gateway.resume.kept import KeptBytes

HEAD: Any = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}


def event(*choices: Any, **more: Any) -> bytes:
    return b"data: %s\n\n" % json.dumps({**HEAD, "choices": list(choices), **more}).encode()


def said(finish: str | None = None, **delta: Any) -> Any:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


BLOCKS = [
    b": ping\n\n",
    b": t 5,6\n\n",
    event(said(role="assistant", content="", refusal=None)),
    event(said(reasoning_content="hm 🙂")),
    b": t 70000\n\n",
    event(said(content="世界"), usage=None),
    b": t 8,9,10\n\n",
    event(said(content='"\n')),
    event(said(finish="stop")),
    event(usage={"prompt_tokens": 1}),
]
EXPECTED = [
    Delivered(),
    Delivered(token_ids=[5, 6]),
    Delivered("chatcmpl-1", 7, [5, 6]),
    Delivered("chatcmpl-1", 7, [5, 6], 0, 4),
    Delivered("chatcmpl-1", 7, [5, 6, 70000], 0, 4),
    Delivered("chatcmpl-1", 7, [5, 6, 70000], 2, 4),
    Delivered("chatcmpl-1", 7, [5, 6, 70000, 8, 9, 10], 2, 4),
    Delivered("chatcmpl-1", 7, [5, 6, 70000, 8, 9, 10], 4, 4),
    Delivered("chatcmpl-1", 7, [5, 6, 70000, 8, 9, 10], 4, 4, finished=True),
    Delivered("chatcmpl-1", 7, [5, 6, 70000, 8, 9, 10], 4, 4, finished=True, usage=True),
]


def test_every_beginning_of_a_stream_is_read_or_refused() -> None:
    """Whole events tell what they hold; where one was cut nobody can go on."""
    whole, ends = b"".join(BLOCKS), {}
    at = 0
    for block, expected in zip(BLOCKS, EXPECTED, strict=True):
        at += len(block)
        ends[at] = expected
    for count in range(len(whole) + 1):
        if count in ends or not count:
            assert read_delivered(whole[:count]) == ends.get(count, Delivered())
        else:
            with pytest.raises(CannotResume, match="half"):
                read_delivered(whole[:count])


def test_other_line_ends_are_read_too() -> None:
    crlf = b"".join(BLOCKS).replace(b"\n\n", b"\r\n\r\n")
    assert read_delivered(crlf) == EXPECTED[-1]


@pytest.mark.parametrize(
    ("passed", "why"),
    [
        (event(said(content="x")), "no token ids"),
        (b": t 1\n\n" + event(said(content="x")) + b"data: [DONE]\n\n", "ended"),
        (b": t 1\n\n" + b'data: {"error": {"message": "x"}}\n\n', "error"),
        (b": t 1\n\n" + event(said(content="x")) + event(said(), id="other"), "one id"),
        (b": t 1\n\n" + event(said(), id=""), "one id"),
        (b": t 1\n\n" + event({**said(content="x"), "index": 1}), "several"),
        (b": t 1\n\n" + event(said(tool_calls=[{"index": 0}])), "tool calls"),
        (b": t x\n\n", "numbers"),
        (b"data: hello\n\n", "our workers"),
        (b'data: {"choices": 5}\n\n', "our workers"),
        (b"event: message_start\ndata: {}\n\n", "our workers"),
        (b"\xff\xfe\n\n", "our workers"),
    ],
)
def test_what_nobody_can_go_on_with_is_named(passed: bytes, why: str) -> None:
    with pytest.raises(CannotResume, match=why):
        read_delivered(passed)


def test_completions_tell_their_text() -> None:
    passed = b": t 1\n\n" + event({"index": 0, "text": "é🙂", "finish_reason": "length"})
    assert read_delivered(passed) == Delivered("chatcmpl-1", 7, [1], 2, finished=True)


def asked(**fields: Any) -> JsonRequest:
    return JsonRequest([json.dumps({"model": "nick", "stream": True, **fields}).encode()])


def test_a_continuation_is_the_clients_request_and_what_there_is() -> None:
    whole = b'{"model":"nick","stream":true,"temperature":1.50,"messages":["\\u00e9"]}'
    body = Continuation(JsonRequest([whole[:9], whole[9:]]), EXPECTED[5]).body_for("org/chat")
    sent = b"".join(body.chunks())
    assert b'"temperature":1.50,"messages":["\\u00e9"]' in sent
    assert json.loads(sent)["model"] == "org/chat"
    assert json.loads(sent)["continue"] == {
        "id": "chatcmpl-1",
        "created": 7,
        "token_ids": [5, 6, 70000],
        "content": 2,
        "reasoning_content": 4,
        "finished": False,
    }


def test_where_no_event_was_sent_it_is_asked_for_anew() -> None:
    request = asked()
    again = Continuation(request, EXPECTED[1])
    assert b"".join(again.body_for("nick").chunks()) == b"".join(request.body_for("nick").chunks())
    assert again.continued_by([])


def test_only_an_answer_that_says_so_goes_on() -> None:
    more = Continuation(asked(), EXPECTED[2])
    assert not more.continued_by([(b"content-type", b"text/event-stream")])
    assert more.continued_by([(b"x-msp-continues", b"1")])


def test_who_goes_on_with_another_answer_already_is_not_continued() -> None:
    with pytest.raises(CannotResume, match="already"):
        Continuation(asked(**{"continue": {}}), EXPECTED[2])


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": True}])
def test_when_only_the_end_is_missing_nobody_need_be_asked(options: Any) -> None:
    wants_usage = bool(options and options["include_usage"]) if options else False
    request = asked(stream_options=options)
    assert [lacks_its_end_only(request, one) for one in EXPECTED[-3:]] == [False, not wants_usage, True]


def test_bytes_are_kept_within_the_room_of_one_stream_and_of_all() -> None:
    room = KeptBytes(per_stream=10, all_streams=15)
    one, two = room.stream(), room.stream()
    one.add(b"0123456")
    one.add(b"789")
    assert (one.bytes(), one.whole) == (b"0123456789", True)
    two.add(b"0123456")
    assert (two.whole, room.used) == (False, 10)
    one.add(b"x")
    assert (one.whole, one.bytes(), room.used) == (False, b"", 0)
    one.add(b"y")
    assert one.bytes() == b""
    three = room.stream()
    three.add(b"abc")
    three.forget()
    three.forget()
    assert room.used == 0
