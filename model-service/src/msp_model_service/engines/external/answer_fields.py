"""The few fields of an answer that the worker reads or writes."""

import msgspec

from msp_common.errors import UpstreamFailed


class Usage(msgspec.Struct):
    """OpenAI's usage; other fields are passed over."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    """Of sound, where a transcription's usage is a duration."""


class _Answer(msgspec.Struct):
    usage: Usage | None = None


def renamed(body: bytes, model_name: str, model_id: str) -> bytes:
    """The JSON object with our name of the model where `model` is another; the very same bytes otherwise.

    Servers write a path there, or the name and a revision, so whatever is not our id is replaced.
    """
    if model_name == model_id:
        return body
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    ours = msgspec.json.encode(model_id)
    if "model" not in fields or bytes(fields["model"]) == ours:
        return body
    fields["model"] = msgspec.Raw(ours)
    return msgspec.json.encode(fields)


def read_answer(body: bytes, model_name: str, model_id: str) -> tuple[bytes, Usage | None]:
    """A whole JSON answer for the client, and its usage. Raises UpstreamFailed for what is no JSON object."""
    try:
        passed = renamed(body, model_name, model_id)
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamFailed("The model's server answered with something that is no JSON object.") from None
    try:
        return passed, msgspec.json.decode(body, type=_Answer).usage
    except msgspec.ValidationError:
        return passed, None
