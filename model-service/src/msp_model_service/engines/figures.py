"""What an engine may tell beyond its load, for metrics."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class EngineFigures:
    """A moment of an engine; null where it does not know."""

    batch_rows: int | None = None
    """Sequences in the present batch."""
    kv_used: float | None = None
    """Share of the memory for keys and values that is in use, 0 to 1."""
    prompt_tokens_reused: int | None = None
    """Prompt tokens since the start that were not read again, for their keys and values were there."""


@runtime_checkable
class TellsFigures(Protocol):
    """An engine that has such figures. Whoever has none leaves the method out."""

    def figures(self) -> EngineFigures:
        """As of now. Cheap: called at every scrape."""
