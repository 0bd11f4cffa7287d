"""The fields of a transcription request. A form's values are all text; what they mean is decided here."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile

from msp_common.errors import InvalidRequest
from msp_model_service.audio.transcript import ResponseFormat, Task

Field = tuple[str, UploadFile | str]

_TRUE, _FALSE = {"true", "1", "yes"}, {"false", "0", "no"}


@dataclass(frozen=True)
class TranscriptionForm:
    """A request as the client meant it. Fields that are not known are ignored."""

    file: UploadFile
    model: str | None
    language: str | None
    prompt: str | None
    temperature: float
    response_format: ResponseFormat
    stream: bool
    segments: bool
    words: bool
    """Of which a verbose answer tells the times."""


def read(fields: Iterable[Field], task: Task = Task.TRANSCRIBE) -> TranscriptionForm:
    """Read a form's fields in any order; `name[]` means the same as `name`, an empty value the same as none.

    Raises InvalidRequest naming the field at fault.
    """
    values: dict[str, list[UploadFile | str]] = {}
    for key, value in fields:
        if value != "":
            values.setdefault(key.removesuffix("[]"), []).append(value)
    texts = {key: [v for v in given if isinstance(v, str)] for key, given in values.items()}
    form = _response_format(_last(texts, "response_format"))
    stream = _flag(_last(texts, "stream"), "stream")
    if stream and task is Task.TRANSLATE:
        raise _wrong("stream", "a translation cannot be streamed")
    if stream and form not in (ResponseFormat.JSON, ResponseFormat.TEXT):
        raise _wrong("stream", f"a {form} answer cannot be streamed, only json and text can")
    granularities = _granularities(texts.get("timestamp_granularities", []), form)
    return TranscriptionForm(
        file=_file(values.get("file", [])),
        model=_last(texts, "model"),
        language=_last(texts, "language"),
        prompt=_last(texts, "prompt"),
        temperature=_temperature(_last(texts, "temperature")),
        response_format=form,
        stream=stream,
        segments="segment" in granularities,
        words="word" in granularities,
    )


def _last(texts: Mapping[str, Sequence[str]], name: str) -> str | None:
    given = texts.get(name)
    return given[-1] if given else None


def _file(given: Sequence[UploadFile | str]) -> UploadFile:
    uploads = [value for value in given if isinstance(value, UploadFile)]
    if uploads:
        return uploads[-1]
    if given:
        raise _wrong("file", "expected an upload, and the part has no file name")
    raise InvalidRequest("The form has no 'file'; upload the recording under that name.", param="file")


def _response_format(given: str | None) -> ResponseFormat:
    try:
        return ResponseFormat(given or ResponseFormat.JSON)
    except ValueError:
        raise _wrong("response_format", f"expected one of {', '.join(ResponseFormat)}", given) from None


def _flag(given: str | None, param: str) -> bool:
    if given is None:
        return False
    if given.lower() in _TRUE | _FALSE:
        return given.lower() in _TRUE
    raise _wrong(param, "expected true or false", given)


def _temperature(given: str | None) -> float:
    try:
        value = float(given or 0)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise _wrong("temperature", "expected a number from 0 to 1", given)
    return value


def _granularities(given: Sequence[str], form: ResponseFormat) -> frozenset[str]:
    name = "timestamp_granularities"
    for value in given:
        if value not in ("segment", "word"):
            raise _wrong(name, "expected segment or word", value)
    if given and form is not ResponseFormat.VERBOSE_JSON:
        raise _wrong(name, "only a response_format of verbose_json shows times in this way")
    return frozenset(given or ("segment",))


def _wrong(param: str, reason: str, given: Any = None) -> InvalidRequest:
    shown = "" if given is None else f" (got {str(given)[:40]!r})"
    return InvalidRequest(f"Invalid value for '{param}': {reason}{shown}.", param=param, code="invalid_value")
