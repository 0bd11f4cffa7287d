"""The reader by which answers to web interfaces are checked finds what those stumble over."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from support.streamed_answers import NotUnderstood, StreamedAnswer, read_stream

Chunks = list[dict[str, Any]]


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "org/chat"}
    return {**head, "choices": [choice], **more}


def good() -> Chunks:
    return [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Good "}),
        chunk({"content": "day"}),
        chunk({}, "stop"),
        chunk({}, choices=[], usage={"total_tokens": 7}),
    ]


def framed(chunks: Chunks) -> str:
    return "".join(f"data: {json.dumps(one)}\n\n" for one in chunks) + "data: [DONE]\n\n"


def read(body: str, *, status: int = 200, kind: str = "text/event-stream") -> StreamedAnswer:
    answer = httpx.Response(status, headers={"content-type": kind}, text=body)
    transport = httpx.MockTransport(lambda _: answer)
    with httpx.Client(transport=transport) as client, client.stream("POST", "http://gateway/") as response:
        return read_stream(response)


def test_a_good_stream_is_added_up() -> None:
    answer = read(": keepalive\n\n" + framed(good()))
    assert (answer.text, answer.pieces, answer.finish_reason) == ("Good day", 2, "stop")
    assert (answer.model, answer.usage) == ("org/chat", {"total_tokens": 7})


def test_pieces_of_a_tool_call_are_put_together() -> None:
    named = {"name": "get_weather", "arguments": ""}
    calls = [
        {"index": 0, "id": "call-1", "type": "function", "function": named},
        {"index": 0, "function": {"arguments": '{"city":'}},
        {"index": 0, "function": {"arguments": ' "Lyon"}'}},
    ]
    begun = chunk({"role": "assistant", "content": None})
    answer = read(
        framed([begun, *(chunk({"tool_calls": [call]}) for call in calls), chunk({}, "tool_calls")])
    )
    assert answer.calls == [{"id": "call-1", "name": "get_weather", "arguments": '{"city": "Lyon"}'}]


@pytest.mark.parametrize(
    ("what", "broken"),
    [
        (
            "the role is told not once",
            lambda chunks: [*chunks[:2], chunk({"role": "assistant"}), *chunks[2:]],
        ),
        ("the role is told not once", lambda chunks: chunks[1:]),
        ("no finish_reason", lambda chunks: chunks[:3]),
        ("a second finish_reason", lambda chunks: [*chunks, chunk({}, "stop")]),
        ("id or model changed", lambda chunks: [*chunks[:3], {**chunks[3], "id": "chatcmpl-2"}]),
        ("id or model changed", lambda chunks: [*chunks[:3], {**chunks[3], "model": "org/other"}]),
        ("no chunk of a chat", lambda chunks: [{**chunks[0], "object": "chat.completion"}, *chunks[1:]]),
        ("`created` is no whole number", lambda chunks: [{**chunks[0], "created": 1.5}, *chunks[1:]]),
        ("no list of choices", lambda chunks: [*chunks[:4], {**chunks[4], "choices": None}]),
        ("an error within the stream", lambda chunks: [*chunks[:2], {"error": {"message": "gone"}}]),
    ],
)
def test_chunks_that_clients_stumble_over_are_found(what: str, broken: Callable[[Chunks], Chunks]) -> None:
    with pytest.raises(NotUnderstood, match=what):
        read(framed(broken(good())))


@pytest.mark.parametrize(
    ("what", "broken"),
    [
        (r"no \[DONE\]", lambda body: body.replace("data: [DONE]\n\n", "")),
        (r"more after \[DONE\]", lambda body: body + body),
        ("not ended by an empty line", lambda body: body[:-1]),
        ("a line that is no data", lambda body: "event: message\n" + body),
    ],
)
def test_frames_that_clients_stumble_over_are_found(what: str, broken: Callable[[str], str]) -> None:
    with pytest.raises(NotUnderstood, match=what):
        read(broken(framed(good())))


def test_an_answer_that_is_no_stream_is_told_with_its_words() -> None:
    with pytest.raises(NotUnderstood, match="503 still loading"):
        read("still loading", status=503)
    with pytest.raises(NotUnderstood, match="application/json"):
        read("{}", kind="application/json")
