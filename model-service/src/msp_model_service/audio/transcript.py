"""A finished transcript, and its forms on the wire."""

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from msp_model_service.engines.transcriber import Segment


class ResponseFormat(StrEnum):
    """The forms that OpenAI's API names, as far as they are served."""

    JSON = "json"
    TEXT = "text"
    SRT = "srt"
    VTT = "vtt"
    VERBOSE_JSON = "verbose_json"

    @property
    def has_times(self) -> bool:
        """Whether the form tells when something was said."""
        return self in (ResponseFormat.SRT, ResponseFormat.VTT, ResponseFormat.VERBOSE_JSON)

    @property
    def media_type(self) -> str:
        """What the answer is sent as. Subtitles are plain text, as OpenAI sends them."""
        is_json = self in (ResponseFormat.JSON, ResponseFormat.VERBOSE_JSON)
        return "application/json" if is_json else "text/plain; charset=utf-8"


class Task(StrEnum):
    """What is done with speech, by the names that answers give it."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


@dataclass(frozen=True)
class Transcript:
    """All that is known of a recording."""

    segments: Sequence[Segment]
    language: str
    """Its English name."""
    duration_s: float
    task: Task = Task.TRANSCRIBE
    tell_segments: bool = True
    tell_words: bool = False
    """What a verbose answer tells the times of."""

    @property
    def text(self) -> str:
        """All that was said."""
        return text_of(self.segments)


def text_of(segments: Iterable[Segment]) -> str:
    """The words of the segments. Of more segments it begins with the text of fewer."""
    return "".join(segment.text for segment in segments).strip()


def usage(duration_s: float) -> dict[str, Any]:
    """What a transcript is accounted by."""
    return {"type": "duration", "seconds": round(duration_s, 3)}


def render(transcript: Transcript, form: ResponseFormat) -> str:
    """The body of the answer."""
    match form:
        case ResponseFormat.TEXT:
            return transcript.text
        case ResponseFormat.SRT:
            return srt(transcript.segments)
        case ResponseFormat.VTT:
            return vtt(transcript.segments)
        case ResponseFormat.VERBOSE_JSON:
            return _json(_verbose(transcript))
        case ResponseFormat.JSON:
            return _json({"text": transcript.text, "usage": usage(transcript.duration_s)})


def srt(segments: Sequence[Segment]) -> str:
    """SubRip: numbered cues, commas before the milliseconds, hours always written."""
    cues = (
        f"{number}\n{_clock(s.start, ',')} --> {_clock(s.end, ',')}\n{_line(s.text)}\n\n"
        for number, s in enumerate(segments, 1)
    )
    return "".join(cues)


def vtt(segments: Sequence[Segment]) -> str:
    """WebVTT: a header, dots before the milliseconds. `&` and `<` are written as the format's escapes."""
    cues = (
        f"{_clock(s.start, '.')} --> {_clock(s.end, '.')}\n{_escaped(_line(s.text))}\n\n" for s in segments
    )
    return "WEBVTT\n\n" + "".join(cues)


def _verbose(transcript: Transcript) -> dict[str, Any]:
    verbose = {
        "task": str(transcript.task),
        "language": transcript.language,
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text,
        "usage": usage(transcript.duration_s),
    }
    if transcript.tell_segments:
        verbose["segments"] = [_segment(number, each) for number, each in enumerate(transcript.segments)]
    if transcript.tell_words:
        verbose["words"] = [
            {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
            for segment in transcript.segments
            for word in segment.words
        ]
    return verbose


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": segment.seek,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": compression_ratio(segment.text),
        "no_speech_prob": segment.no_speech_prob,
    }


def compression_ratio(text: str) -> float:
    """How often the text says the same; far above 2 means that the model ran in circles."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def _clock(seconds: float, separator: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole, fraction = divmod(rest, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{separator}{fraction:03}"


def _line(text: str) -> str:
    """One line: an empty one would end the cue, and an arrow would look like the times of the next."""
    return " ".join(text.split()).replace("-->", "->")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
