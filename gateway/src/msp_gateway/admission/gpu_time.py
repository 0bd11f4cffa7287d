"""How GPU time is shared among the requests that a model works on at the same time. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(slots=True)
class _Meter:
    total_s: float = 0.0
    """GPU seconds that a request would have who was there all the time."""
    at: float = 0.0
    in_flight: int = 0
    gpus: Sequence[int] = ()
    busy: Sequence[int] = (0,)
    """By the number of replicas that have work, how many GPUs have it, at most."""


class GpuTime:
    """A meter for each model; a request's share is what its meter went on by meanwhile.

    An estimate: `n` requests keep as many replicas busy as there are, at most `n`, and share the GPU time of
    those evenly. The shares of all requests add up to the time for which GPUs had work.
    """

    def __init__(self) -> None:
        self._meters: dict[str, _Meter] = {}

    def read(self, model: str, now: float) -> float:
        """The meter's present state."""
        return self._read(model, now).total_s

    def set_in_flight(self, model: str, in_flight: int, now: float) -> float:
        """So many requests are worked on from now on; the meter's state at this moment."""
        meter = self._read(model, now)
        meter.in_flight = in_flight
        return meter.total_s

    def set_gpus(self, model: str, gpus: Sequence[int], now: float) -> None:
        """The replicas that can be asked have so many GPUs each from now on."""
        meter = self._meters.get(model)
        if meter is None or meter.gpus != gpus:
            meter = self._read(model, now)
            meter.gpus = gpus
            meter.busy = [0, *accumulate(sorted(gpus, reverse=True))]

    def _read(self, model: str, now: float) -> _Meter:
        meter = self._meters.get(model)
        if meter is None:
            meter = self._meters[model] = _Meter(at=now)
        elif meter.in_flight and now > meter.at:
            busy = meter.busy[min(meter.in_flight, len(meter.busy) - 1)]
            meter.total_s += (now - meter.at) * busy / meter.in_flight
        meter.at = now
        return meter
