"""The five forms of a transcript."""

import itertools
import json
import re

import pytest

from msp_model_service.audio.transcript import ResponseFormat, Transcript, render, text_of
from msp_model_service.engines.transcriber import Segment

SEGMENTS = [
    Segment(start=0.0, end=1.5, text=" Hello there.", tokens=(1, 2)),
    Segment(start=1.5, end=3725.0406, text=" 1 < 2 & 3 --> 4\n\nGrüße", tokens=(3,), seek=150),
]
TRANSCRIPT = Transcript(SEGMENTS, "english", 3726.25)


def test_srt_has_numbers_commas_and_hours() -> None:
    assert render(TRANSCRIPT, ResponseFormat.SRT) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n"
        "2\n00:00:01,500 --> 01:02:05,041\n1 < 2 & 3 -> 4 Grüße\n\n"
    )


def test_vtt_has_a_header_dots_and_escapes() -> None:
    assert render(TRANSCRIPT, ResponseFormat.VTT) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.500\nHello there.\n\n"
        "00:00:01.500 --> 01:02:05.041\n1 &lt; 2 &amp; 3 -> 4 Grüße\n\n"
    )


@pytest.mark.parametrize(("form", "empty"), [(ResponseFormat.SRT, ""), (ResponseFormat.VTT, "WEBVTT\n\n")])
def test_silence_has_no_cue(form: ResponseFormat, empty: str) -> None:
    assert render(Transcript([], "english", 3.0), form) == empty


def test_a_time_that_rounds_up_carries_over() -> None:
    cue = render(Transcript([Segment(59.9996, 3599.9999, "x")], "english", 3600), ResponseFormat.SRT)
    assert "00:01:00,000 --> 01:00:00,000" in cue


def test_text_is_the_words_and_nothing_else() -> None:
    assert render(TRANSCRIPT, ResponseFormat.TEXT) == "Hello there. 1 < 2 & 3 --> 4\n\nGrüße"


def test_json_has_the_text_and_what_it_is_accounted_by() -> None:
    assert json.loads(render(TRANSCRIPT, ResponseFormat.JSON)) == {
        "text": TRANSCRIPT.text,
        "usage": {"type": "duration", "seconds": 3726.25},
    }


def test_verbose_json_has_all_that_the_specification_names() -> None:
    body = json.loads(render(TRANSCRIPT, ResponseFormat.VERBOSE_JSON))
    assert body["task"] == "transcribe"
    assert body["language"] == "english"
    assert body["duration"] == 3726.25
    assert [segment["id"] for segment in body["segments"]] == [0, 1]
    assert set(body["segments"][1]) == {
        *("id", "seek", "start", "end", "text", "tokens"),
        *("temperature", "avg_logprob", "compression_ratio", "no_speech_prob"),
    }
    assert body["segments"][1]["seek"] == 150


def test_text_that_repeats_itself_has_a_high_compression_ratio() -> None:
    said = Transcript([Segment(0, 1, " no" * 200), Segment(1, 2, " Each word differs")], "english", 2)
    ratios = [
        s["compression_ratio"] for s in json.loads(render(said, ResponseFormat.VERBOSE_JSON))["segments"]
    ]
    assert ratios[0] > 10 > 2 > ratios[1]


def test_text_grows_only_at_its_end() -> None:
    pieces = [Segment(0, 1, "  Un "), Segment(1, 2, " "), Segment(2, 3, "deux \n"), Segment(3, 4, " trois ")]
    texts = [text_of(pieces[:count]) for count in range(len(pieces) + 1)]
    assert all(longer.startswith(shorter) for shorter, longer in itertools.pairwise(texts))
    assert re.split(r"\s+", texts[-1]) == ["Un", "deux", "trois"]
