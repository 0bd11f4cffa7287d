"""What the registry counts."""

from prometheus_client import CollectorRegistry, Counter


class Metrics:
    """Counters of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.served_bytes = Counter(
            "msp_registry_served_bytes", "Bytes of model files sent to clients", registry=self.registry
        )
        self.jobs_ended = Counter(
            "msp_registry_jobs_ended",
            "Jobs that ended, by outcome: `succeeded`, or the failure's code",
            ["outcome"],
            registry=self.registry,
        )
