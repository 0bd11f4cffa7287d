"""The states of a worker's life, and which may follow which.

starting → fetching → loading → ready → draining
    └──────────┴─────────┴────────┴──→ failed → draining
"""

from dataclasses import dataclass

from msp_common.contracts.workers import WorkerState

_S = WorkerState
_NEXT: dict[WorkerState, frozenset[WorkerState]] = {
    _S.STARTING: frozenset({_S.FETCHING, _S.FAILED, _S.DRAINING}),
    _S.FETCHING: frozenset({_S.LOADING, _S.FAILED, _S.DRAINING}),
    _S.LOADING: frozenset({_S.READY, _S.FAILED, _S.DRAINING}),
    _S.READY: frozenset({_S.FAILED, _S.DRAINING}),
    _S.FAILED: frozenset({_S.DRAINING}),
    _S.DRAINING: frozenset(),
}


def may_become(now: WorkerState, then: WorkerState) -> bool:
    """Whether `then` may follow `now`. What ends late (a load during draining) must not turn life back."""
    return then in _NEXT[now]


@dataclass(frozen=True)
class Status:
    """Where a worker stands."""

    state: WorkerState = WorkerState.STARTING
    progress: float | None = None
    """Share of the current state's work that is done, 0 to 1; null where nobody knows."""
    reason: str | None = None
    """What it is doing, waits for, or failed of."""

    def sentence(self) -> str:
        """For error messages: `loading (40%): weights`."""
        share = f" ({self.progress:.0%})" if self.progress is not None else ""
        return f"{self.state}{share}{f': {self.reason}' if self.reason else ''}"


def backoff_s(attempt: int) -> float:
    """Seconds to wait after the `attempt`-th failure in a row (from 1): 0.5, 1, 2, then 4 each time.

    Asking costs the registry next to nothing, and somebody may be waiting for the model that just arrived.
    """
    return min(4.0, 0.5 * 2.0 ** min(attempt - 1, 3))
