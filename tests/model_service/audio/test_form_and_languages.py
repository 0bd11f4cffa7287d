"""What a transcription form means, and which language is meant."""

import io
from typing import Any

import pytest
from starlette.datastructures import UploadFile

from msp_common.errors import InvalidRequest
from msp_model_service.audio import form, languages
from msp_model_service.audio.transcript import ResponseFormat, Task

FILE = ("file", UploadFile(io.BytesIO(b"x"), filename="a.wav"))
KNOWN = {"en": ("english",), "es": ("spanish", "castilian"), "zh": ("chinese", "mandarin")}


def test_absent_fields_have_openais_defaults() -> None:
    read = form.read([FILE])
    assert (read.response_format, read.temperature, read.stream) == (ResponseFormat.JSON, 0.0, False)
    assert (read.model, read.language, read.prompt) == (None, None, None)


def test_the_order_of_fields_and_empty_values_do_not_matter() -> None:
    fields: list[form.Field] = [("model", "m"), ("language", ""), FILE, ("prompt", ""), ("unheard_of", "1")]
    assert form.read(fields) == form.read(list(reversed(fields)))


@pytest.mark.parametrize("key", ["timestamp_granularities", "timestamp_granularities[]"])
def test_lists_may_be_written_with_and_without_brackets(key: str) -> None:
    verbose: list[form.Field] = [FILE, ("response_format", "verbose_json")]

    def times(*given: str) -> tuple[bool, bool]:
        read = form.read([*verbose, *((key, value) for value in given)])
        return read.segments, read.words

    assert times() == times("segment") == times("segment", "segment") == (True, False)
    assert times("word") == (False, True)
    assert times("word", "segment") == (True, True)


def test_a_translation_is_not_streamed() -> None:
    with pytest.raises(InvalidRequest) as refused:
        form.read([FILE, ("stream", "true")], Task.TRANSLATE)
    assert refused.value.param == "stream"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ([], "file"),
        ([("file", "just text")], "file"),
        ([FILE, ("response_format", "diarized_json")], "response_format"),
        ([FILE, ("temperature", "warm")], "temperature"),
        ([FILE, ("temperature", "1.1")], "temperature"),
        ([FILE, ("temperature", "-0.1")], "temperature"),
        ([FILE, ("temperature", "nan")], "temperature"),
        ([FILE, ("stream", "perhaps")], "stream"),
        ([FILE, ("stream", "true"), ("response_format", "srt")], "stream"),
        ([FILE, ("timestamp_granularities[]", "segment")], "timestamp_granularities"),
        ([FILE, ("timestamp_granularities[]", "minute")], "timestamp_granularities"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        form.read(fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (None, None),
        ("", None),
        ("en", "en"),
        ("EN", "en"),
        ("en-GB", "en"),
        ("zh_TW", "zh"),
        ("English", "en"),
        ("Castilian", "es"),
        (" mandarin ", "zh"),
    ],
)
def test_a_language_is_known_by_code_tag_and_name(given: str | None, code: str | None) -> None:
    assert languages.resolve(given, KNOWN) == code


@pytest.mark.parametrize("given", ["klingon", "xx", "e"])
def test_an_unknown_language_is_refused_with_those_that_are_known(given: str) -> None:
    with pytest.raises(InvalidRequest, match="en, es, zh") as refused:
        languages.resolve(given, KNOWN)
    assert refused.value.param == "language"


def test_a_language_has_a_name_for_verbose_answers() -> None:
    assert languages.name("es", KNOWN) == "spanish"
    assert languages.name(None, {}) == "unknown"
