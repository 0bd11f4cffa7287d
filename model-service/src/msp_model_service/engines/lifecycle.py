"""What every engine is, whatever its type: something that can be loaded, asked how it is, and unloaded.

The protocols of the types (`ChatEngine`, `Embedder`, `Transcriber`) add what it can be asked to do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from msp_common.contracts.workers import Capabilities, WorkerLoad

OnPhase = Callable[[str, float | None], None]
"""Told the phase of loading (`weights`, `warm-up`, ...) and its share done, 0 to 1 where it is known."""


Quantization = Literal["none", "bnb-8bit", "bnb-4bit"]
CudaGraphs = Literal["auto", "off"]
"""How weights are made smaller while they are loaded."""

QUEUE_DEADLINE_S = 120.0
"""Longest that a request may wait for its turn. By then its client gave up, or is answered too late."""


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
    max_running: int | None = None
    """Requests that are answered at the same time; None: by device."""
    prefill_tokens: int | None = None
    """Prompt tokens read between two tokens of those who are being answered; None: by device."""
    queue_deadline_s: float = QUEUE_DEADLINE_S
    kv_memory_fraction: float | None = None
    """Share of the free memory that keys and values may take; None: by device."""
    cuda_graphs: CudaGraphs = "off"
    """`auto`: decode steps are recorded as CUDA graphs where that works; `off`: never."""
    workers_per_host: int = 1
    """Workers that see the same main memory as free."""
    quantization: Quantization = "none"
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
