"""What is counted of waiting and of refusing; the time waited is accounted with each request."""

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge


class Why(StrEnum):
    """Why a request was not let in."""

    RATE = "rate"
    """The key's limit per minute."""
    FULL = "full"
    """As many wait as may."""
    EXPECTED = "expected"
    """Its turn would come after the deadline."""
    DEADLINE = "deadline"
    """It waited until the deadline."""


class QueueMetrics:
    """The gateway's own metrics of admission."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.waiting = Gauge(
            "msp_gateway_queue_waiting", "Requests that wait for a place", ["model"], registry=metrics
        )
        self._refused = Counter(
            "msp_gateway_requests_refused",
            "Requests that were not let in: rate, full, expected (too long a wait) or deadline",
            ["model", "why"],
            registry=metrics,
        )

    def refused(self, model: str, why: Why) -> None:
        """A request was not let in."""
        self._refused.labels(model, why.value).inc()
