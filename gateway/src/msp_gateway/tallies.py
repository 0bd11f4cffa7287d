"""Counters and histograms that one event loop alone counts in, told to Prometheus when it asks.

Those of Prometheus's client take a lock for every count, which costs more here than what is counted.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString


class Count:
    """The value of one combination of labels."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Tally:
    """Numbers by the values of labels: how often something was so far, or (a `gauge`) is now."""

    def __init__(self, name: str, help: str, labels: Sequence[str], *, gauge: bool = False) -> None:
        self._name, self._help, self._labels = name, help, labels
        self._family = GaugeMetricFamily if gauge else CounterMetricFamily
        self._counts: defaultdict[tuple[str, ...], Count] = defaultdict(Count)

    def of(self, *values: str) -> Count:
        """The count with these labels; who adds to it often may keep it."""
        return self._counts[values]

    def add(self, *values: str) -> None:
        """Count one more."""
        self.of(*values).value += 1

    def family(self) -> Metric:
        """As Prometheus's client writes it."""
        family = self._family(self._name, self._help, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(values, count.value)
        return family


class Series:
    """The values of one combination of labels: how many are in each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Distribution:
    """A histogram by the values of labels. A bucket holds what is no more than its bound."""

    def __init__(self, name: str, help: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name, self._help, self._labels = name, help, labels
        self._written_bounds = [*map(floatToGoString, bounds), "+Inf"]
        self._series: defaultdict[tuple[str, ...], Series] = defaultdict(lambda: Series(bounds))

    def of(self, *values: str) -> Series:
        """The series with these labels; who adds to it often may keep it."""
        return self._series[values]

    def add(self, value: float, *values: str) -> None:
        """One more value."""
        self.of(*values).add(value)

    def family(self) -> Metric:
        """As Prometheus's client writes it."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for values, series in self._series.items():
            if any(series.counts):
                family.add_metric(values, self._cumulated(series.counts), series.total)
        return family

    def _cumulated(self, counts: Sequence[int]) -> list[tuple[str, float]]:
        below, buckets = 0, []
        for bound, count in zip(self._written_bounds, counts, strict=True):
            below += count
            buckets.append((bound, float(below)))
        return buckets


class Tallies:
    """Several of them, as a collector for Prometheus's registry."""

    def __init__(self, *metrics: Tally | Distribution) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Called at each scrape."""
        return (metric.family() for metric in self._metrics)
