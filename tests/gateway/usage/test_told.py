"""What an answer's own end tells of its tokens."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msp_gateway.usage.told import HEAD_BYTES, TAIL_BYTES, Listening, Told, usage_in

USAGE = {"prompt_tokens": 7, "total_tokens": 12, "completion_tokens": 5}
CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hällo"}}],
    "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 3}},
    "system_fingerprint": None,
}


def told(*parts: bytes, streams: bool = False, done: bool = True) -> Told | None:
    listening = Listening(streams=streams)
    for part in parts:
        listening.heard(part)
    return listening.told(done=done)


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", **fields}).encode() + b"\n\n"


def delta(text: str, **more: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more)


ROLE = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
FINISH = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("spaces", [None, 2])
def test_the_figures_at_the_end_of_an_answer_are_read(spaces: int | None) -> None:
    assert told(json.dumps(CHAT, indent=spaces).encode()) == Told(7, 5)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "total_tokens": 9}, Told(9, None)),
        ({"input_tokens": 4, "output_tokens": 2, "total_tokens": 6}, Told(4, 2)),
        ({"type": "duration", "seconds": 12.5}, Told(audio_s=12.5)),
        ({"type": "duration", "seconds": 12}, Told(audio_s=12.0)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Told(0, 0)),
        ({}, None),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": "9"}, None),
        ({"prompt_tokens": True}, None),
        ({"prompt_tokens": 1e300}, None),
    ],
    ids=str,
)
def test_each_kind_of_answer_has_its_own_names_for_them(usage: Any, expected: Told | None) -> None:
    assert told(json.dumps({"data": [], "usage": usage}).encode()) == expected


def test_a_long_answer_is_not_kept_and_its_end_is_read_all_the_same() -> None:
    long = json.dumps({**CHAT, "choices": [{"message": {"content": "x" * 300_000}}], "usage": USAGE}).encode()
    listening = Listening(streams=False)
    for start in range(0, len(long), 1000):
        listening.heard(long[start : start + 1000])
        assert listening.kept_bytes <= HEAD_BYTES + 4 * TAIL_BYTES
    assert listening.told() == Told(7, 5)


def test_figures_that_stand_first_are_read_too() -> None:
    embeddings = {"object": "list", "usage": {"prompt_tokens": 3, "total_tokens": 3}, "data": [0.25] * 9000}
    assert told(json.dumps(embeddings).encode()) == Told(3, None)


def test_figures_in_the_middle_of_a_long_answer_are_not_seen() -> None:
    far = "x" * (HEAD_BYTES + TAIL_BYTES)
    assert told(json.dumps({"a": far, "usage": USAGE, "b": far}).encode()) is None


def test_what_only_reads_like_figures_is_content() -> None:
    said = 'It ends with "usage": {"prompt_tokens": 1000000, "completion_tokens": 1}'
    answer = {"choices": [{"message": {"content": said}, "usage": None}]}
    assert told(json.dumps(answer).encode()) is None
    assert told(json.dumps({**answer, "usage": USAGE, "text": said}).encode()) == Told(7, 5)


@pytest.mark.parametrize(
    "body", [b"", b"1\n00:00:00,000 --> 00:00:01,000\nHello\n", b"\xff\xfe\x00", b"[1, 2"]
)
def test_an_answer_without_figures_tells_nothing(body: bytes) -> None:
    assert told(body) is None


def test_a_stream_tells_them_in_its_last_event() -> None:
    parts = [ROLE, *(delta("a", usage=None) for _ in range(3)), FINISH, event(choices=[], usage=USAGE), DONE]
    assert told(*parts, streams=True) == Told(7, 5)
    assert told(b"".join(parts), streams=True) == Told(7, 5)


def test_of_figures_in_every_event_the_last_are_right() -> None:
    counted = [delta("a", usage={"prompt_tokens": 7, "completion_tokens": n}) for n in range(1, 200)]
    assert told(*counted, DONE, streams=True) == Told(7, 199)


def test_without_figures_a_streams_events_are_counted_and_called_an_estimate() -> None:
    tokens = [delta(f"data: {n}\n\ndata: x") for n in range(40)]
    assert told(ROLE, *tokens, FINISH, DONE, streams=True) == Told(None, 40, estimated=True)
    assert told(ROLE + b"".join(tokens) + FINISH + DONE, streams=True) == Told(None, 40, estimated=True)


def test_named_events_and_comments_are_not_counted_twice() -> None:
    named = [b": hm\n\n", *(b"event: response.output_text.delta\n" + delta("a") for _ in range(5)), FINISH]
    assert told(*named, ROLE, DONE, streams=True) == Told(None, 5, estimated=True)


def test_a_stream_that_broke_off_is_estimated_by_what_came() -> None:
    assert told(ROLE, *(delta("a") for _ in range(5)), streams=True, done=False) == Told(
        None, 4, estimated=True
    )
    assert told(ROLE, streams=True, done=False) is None


def test_figures_that_are_cut_off_give_way_to_earlier_ones() -> None:
    whole = event(choices=[], usage=USAGE)
    assert usage_in(whole + whole[:-20]) == Told(7, 5)
    assert usage_in(whole[:-20]) is None


@settings(deadline=None)
@given(st.binary(max_size=600), st.integers(0, 600))
def test_nothing_that_a_server_may_send_is_an_error(noise: bytes, cut: int) -> None:
    body = json.dumps(CHAT).encode()
    told(noise, body[cut:] + noise, b'{"usage":' + b"{" * 3000, streams=True)
    told(body[:cut], noise)


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), max_size=30))
def test_how_an_answer_is_cut_into_parts_changes_nothing(cuts: list[int]) -> None:
    body = json.dumps(CHAT).encode()
    parts, at = [], 0
    for size in cuts:
        parts.append(body[at : at + size])
        at += size
    assert told(*parts, body[at:]) == Told(7, 5)
