"""What a route needs of the worker that it is part of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from msp_common.contracts.workers import ServedModel
from msp_common.errors import ModelNotFound

E = TypeVar("E")


class UsageSink(Protocol):
    """Where routes tell what an answered request used, once it is known."""

    def observe_tokens(self, prompt: int, completion: int) -> None:
        """Tokens of one request; 0 where a side has none (embeddings have no completion)."""

    def observe_audio(self, seconds: float) -> None:
        """Seconds of sound that one request had transcribed."""


class UncountedUsage:
    """A sink that forgets: for routes tested by themselves."""

    def observe_tokens(self, prompt: int, completion: int) -> None:
        """Forget."""

    def observe_audio(self, seconds: float) -> None:
        """Forget."""


def check_model(model: ServedModel, name: str | None) -> ServedModel:
    """The served model if `name` is its id, an alias, empty or null. Raises ModelNotFound."""
    if not name or name == model.id or name in model.aliases:
        return model
    raise ModelNotFound(
        f"The model {name!r} is not served here; this worker serves {model.id!r}.", param="model"
    )


@dataclass(frozen=True)
class RouteContext(Generic[E]):
    """Handed to every router. `E` is the engine's protocol: ChatEngine, Embedder or Transcriber."""

    engine: Callable[[], E]
    """The loaded engine. Raises Unavailable (503, state and progress in the message) until it is ready."""
    model: Callable[[], ServedModel]
    max_body_bytes: int
    usage: UsageSink = field(default_factory=UncountedUsage)

    def check_model(self, name: str | None) -> ServedModel:
        """See the function of the same name."""
        return check_model(self.model(), name)
