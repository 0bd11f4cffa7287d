"""The terms of the tables: a request's field, what becomes of it, and what that depends on."""

from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """What becomes of a field. null stands for an absent one, whatever the standing."""

    HONOURED = "honoured"
    IGNORED = "ignored"
    """Accepted, and the answer is the same as without it."""
    REFUSED = "refused"
    """400, and `param` of the error names the field."""
    PASSED_ON = "passed_on"
    """Handed to the external server as it is; what becomes of it is that server's business."""


class Needs(StrEnum):
    """What a field can be honoured with only."""

    WEIGHTS = "weights"
    """A model that chooses its words: the fake engine's answers follow from the question alone."""
    TOOLS = "tools"
    """A chat template that shows tools, and a form of calls that is known here."""
    JSON_SCHEMA = "json_schema"
    """A tokenizer from which grammars can be made."""
    IMAGES = "images"
    """A multimodal model."""
    REASONING_EFFORT = "reasoning_effort"
    """A chat template that names `reasoning_effort` or `enable_thinking`."""
    PROMPT_SCORES = "prompt_scores"
    """An engine that tells log probabilities of the prompt's own tokens."""
    SHORTER_VECTORS = "shorter_vectors"
    """A model whose repository says that it was trained for shorter vectors (Matryoshka)."""


UNSUPPORTED = "unsupported_value"
INVALID = "invalid_value"


@dataclass(frozen=True)
class Lack:
    """What becomes of a field where something that it needs is missing."""

    standing: Standing
    why: str
    code: str | None = None


LACKING: dict[Needs, Lack] = {
    Needs.WEIGHTS: Lack(Standing.IGNORED, "the fake engine's answers follow from the question alone"),
    Needs.TOOLS: Lack(
        Standing.REFUSED,
        "the model's chat template has no place for tools, or is not understood",
        UNSUPPORTED,
    ),
    Needs.JSON_SCHEMA: Lack(Standing.REFUSED, "answers of this model cannot be held to a form", UNSUPPORTED),
    Needs.IMAGES: Lack(Standing.REFUSED, "the model takes text only", UNSUPPORTED),
    Needs.REASONING_EFFORT: Lack(Standing.IGNORED, "the model's chat template does not know it"),
    Needs.PROMPT_SCORES: Lack(
        Standing.REFUSED, "the engine has no log probabilities of the prompt's own tokens", UNSUPPORTED
    ),
    Needs.SHORTER_VECTORS: Lack(
        Standing.REFUSED, "the model's repository does not say that its vectors may be cut", INVALID
    ),
}


@dataclass(frozen=True)
class Field:
    """One field of a request, or some of its values where they fare differently."""

    name: str
    """As an error's `param` begins with it."""
    standing: Standing = Standing.HONOURED
    why: str = ""
    """Why it is ignored or refused; of an honoured field what else is to be known."""
    value: str = ""
    """Which values are meant; empty for all, or for all that no other row speaks of."""
    code: str | None = None
    """Of the error, where it is refused."""
    minimum: float | None = None
    maximum: float | None = None
    """Bounds; a number outside is refused with `invalid_value`."""
    needs: tuple[Needs, ...] = ()
    extension: bool = False
    """Not in OpenAI's specification of the path."""


def ignored(why: str, *names: str, extension: bool = False) -> tuple[Field, ...]:
    """Fields that are ignored for one reason."""
    return tuple(Field(name, Standing.IGNORED, why, extension=extension) for name in names)


def refused(name: str, why: str, *, value: str = "", code: str = UNSUPPORTED) -> Field:
    """A field, or a value of it, that is refused whatever the model."""
    return Field(name, Standing.REFUSED, why, value, code)
