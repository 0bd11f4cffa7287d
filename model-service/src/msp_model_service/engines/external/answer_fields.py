"""The few fields of an answer that the worker reads or writes."""

import msgspec

from msp_common.errors import UpstreamFailed


class PromptDetails(msgspec.Struct):
    """What of the prompt had been read before."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """OpenAI's usage; other fields are passed over."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    seconds: float | None = None
    """Of sound, where a transcription's usage is a duration."""
    input_tokens: int | None = None
    """What `/v1/responses` calls the prompt's tokens, and with them the next two."""
    output_tokens: int | None = None
    input_tokens_details: PromptDetails | None = None

    def __post_init__(self) -> None:
        if self.prompt_tokens is None:
            self.prompt_tokens, self.prompt_tokens_details = self.input_tokens, self.input_tokens_details
        if self.completion_tokens is None:
            self.completion_tokens = self.output_tokens

    @property
    def cached_tokens(self) -> int | None:
        """Of the prompt's tokens; null where the server does not tell."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None


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
    changed = "model" in fields and bytes(fields["model"]) != ours
    if changed:
        fields["model"] = msgspec.Raw(ours)
    if (inner := bytes(fields.get("response", b""))).startswith(b"{"):
        # Events of a response hold all of it.
        again = renamed(inner, model_name, model_id)
        changed = changed or again is not inner
        fields["response"] = msgspec.Raw(again)
    return msgspec.json.encode(fields) if changed else body


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
