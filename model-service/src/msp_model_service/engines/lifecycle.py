"""What every engine is, whatever its type: something that can be loaded, asked how it is, and unloaded.

The protocols of the types (`ChatEngine`, `Embedder`, `Transcriber`) add what it can be asked to do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from msp_common.contracts.workers import Capabilities, WorkerLoad

OnPhase = Callable[[str, float | None], None]
"""Told the phase of loading (`weights`, `warm-up`, ...) and its share done, 0 to 1 where it is known."""


class EngineLoadFailed(Exception):
    """The snapshot cannot be served by this engine; the message says why and what to do."""


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is told about the machine it runs on."""

    device: str = "auto"
    """`auto` (a GPU if one is seen, else the CPU), `cpu` or `cuda`."""
    threads: int = 1
    """CPU threads for tensor work; never more than the cgroup's quota."""
    gpu_memory_fraction: float = 0.9
    """Share of the GPU's memory that this process may take."""
    max_queued: int = 64
    """Requests that may wait; one more is answered 429."""
    audio_fall_back: bool = True
    """Whether doubtful transcripts are tried again at higher temperatures."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """What the operator says of a chat model in place of its files; see `chat.overrides`."""


class Engine(Protocol):
    """One loaded model. `load` and `unload` block and are called in a thread, once each, in this order."""

    name: str

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        """Load the snapshot in `folder` and warm up. Raises EngineLoadFailed."""

    def unload(self) -> None:
        """Stop accepting, end what runs with an error, free memory. Also safe after a failed load."""

    def capabilities(self) -> Capabilities:
        """What the loaded model can do."""

    def load_now(self) -> WorkerLoad:
        """How busy it is. Cheap: called at every heartbeat."""

    def problem(self) -> str | None:
        """Why the engine can do its job no longer; null while it can."""
