"""What a route needs of the worker that it is part of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from msp_common.contracts.workers import ServedModel
from msp_common.errors import ModelNotFound

E = TypeVar("E")


@dataclass(frozen=True)
class RouteContext(Generic[E]):
    """Handed to every router. `E` is the engine's protocol: ChatEngine, Embedder or Transcriber."""

    engine: Callable[[], E]
    """The loaded engine. Raises Unavailable (503, state and progress in the message) until it is ready."""
    model: Callable[[], ServedModel]
    max_body_bytes: int

    def check_model(self, name: str | None) -> ServedModel:
        """The served model if `name` is its id, an alias, empty or null. Raises ModelNotFound."""
        model = self.model()
        if not name or name == model.id or name in model.aliases:
            return model
        raise ModelNotFound(
            f"The model {name!r} is not served here; this worker serves {model.id!r}.", param="model"
        )
