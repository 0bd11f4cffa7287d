"""What an engine may tell of the model that it has loaded, beyond its capabilities."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class ModelFacts:
    """Null or false where the engine does not know."""

    architecture: str | None = None
    """The class of the network, as its library calls it."""
    dtype: str | None = None
    """What the weights are in."""
    tool_format: str | None = None
    """The form in which the model writes tool calls."""
    reasoning_format: str | None = None
    """How the model marks its thinking; null where it does not think."""
    takes_effort: bool = False
    """Whether the chat template names `reasoning_effort` or `enable_thinking`."""
    scores_prompts: bool = False
    """Whether log probabilities of a prompt's own tokens can be asked for."""
    shortens: bool = False
    """Whether vectors may be asked for that are shorter than the model's own."""


@runtime_checkable
class TellsModelFacts(Protocol):
    """An engine that has such facts. Whoever has none leaves the method out."""

    def model_facts(self) -> ModelFacts:
        """Of the loaded model. Cheap, and the same until it is unloaded."""
