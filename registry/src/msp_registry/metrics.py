"""What the registry counts and measures."""

from collections.abc import Callable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

_UNKNOWN = float("nan")


class _Census(Protocol):
    """What the catalogue last found."""

    @property
    def models(self) -> int:
        """Published models."""

    @property
    def stored_bytes(self) -> int:
        """Everything in the store."""


class Metrics:
    """Counters and gauges of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.served_bytes = Counter(
            "msp_registry_served_bytes", "Bytes of model files sent to clients", registry=self.registry
        )
        self.fetched_bytes = Counter(
            "msp_registry_fetched_bytes", "Bytes of model files that came from a hub", registry=self.registry
        )
        self.scrubbed_bytes = Counter(
            "msp_registry_scrubbed_bytes", "Bytes that the scrub has read back", registry=self.registry
        )
        self.bad_files = Counter(
            "msp_registry_bad_files",
            "Files found to be no longer what their manifest says, by the scrub or a verification",
            registry=self.registry,
        )
        self.jobs_ended = Counter(
            "msp_registry_jobs_ended",
            "Jobs that ended, by outcome: `succeeded`, or the failure's code",
            ["outcome"],
            registry=self.registry,
        )
        self.models = self._gauge("models", "Models in the store, when it was last listed")
        self.stored_bytes = self._gauge("stored_bytes", "Size of all objects, when they were last listed")
        self.quarantined_files = self._gauge("quarantined_files", "Files that are not served: they are bad")
        self.store_usable = self._gauge(
            "store_usable", "1 if the store could be used when it was last tried, 0 if not"
        )
        self.store_free_bytes = self._gauge(
            "store_free_bytes", "Room that the store had left when last asked; NaN where it cannot tell"
        )
        self.store_free_bytes.set(_UNKNOWN)
        self.jobs_running = self._gauge("jobs_running", "Jobs that have not ended, waiting ones included")
        self.scrub_last_run = self._gauge(
            "scrub_last_run_timestamp_seconds", "When the scrub last read a snapshot to its end; 0: never yet"
        )

    def watch(
        self,
        *,
        census: Callable[[], _Census | None],
        quarantined_files: Callable[[], int],
        jobs_running: Callable[[], int],
        scrub_last_run: Callable[[], float | None],
    ) -> None:
        """Where the gauges are read off when somebody asks."""

        def models() -> float:
            known = census()
            return _UNKNOWN if known is None else known.models

        def stored_bytes() -> float:
            known = census()
            return _UNKNOWN if known is None else known.stored_bytes

        self.models.set_function(models)
        self.stored_bytes.set_function(stored_bytes)
        self.quarantined_files.set_function(quarantined_files)
        self.jobs_running.set_function(jobs_running)
        self.scrub_last_run.set_function(lambda: scrub_last_run() or 0.0)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"msp_registry_{name}", text, registry=self.registry)
