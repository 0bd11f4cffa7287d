"""How fast a model's places become free, as measured."""

from dataclasses import dataclass

_SMOOTHING = 0.1
TRUSTED_ENDS = 10
"""Requests are refused for an expected wait only once so many ends were measured."""


@dataclass(slots=True)
class _Measured:
    mean_s: float
    ends: int = 1


class ServiceRate:
    """By model, the time for which places are held.

    A full model with `places` places ends `places / mean_s` requests per second (Little's law). Counting ends
    instead would measure how fast requests come while the model is not full.
    """

    def __init__(self) -> None:
        self._models: dict[str, _Measured] = {}

    def ended(self, model: str, held_s: float) -> None:
        """A place was given back."""
        seen = self._models.get(model)
        if seen is None:
            self._models[model] = _Measured(held_s)
            return
        seen.ends += 1
        seen.mean_s += max(_SMOOTHING, 1 / seen.ends) * (held_s - seen.mean_s)

    def wait_s(self, model: str, position: int, places: int) -> float | None:
        """How long until `position` places have become free; None where that is not known."""
        seen = self._models.get(model)
        return None if seen is None or places < 1 else position * seen.mean_s / places

    def is_trusted(self, model: str) -> bool:
        """Whether enough was measured to refuse by it."""
        seen = self._models.get(model)
        return seen is not None and seen.ends >= TRUSTED_ENDS
