"""What is known of models at one moment: who serves them, of which type they are, what they are called."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Verdict, Worker
from msp_gateway.routing_rules import DefaultOf, RoutingRules
from msp_gateway.settings import ConfiguredModel

SETTLING_S = 10.0
"""For so long after its start the gateway takes an unknown model for one that is about to register."""

_NEARNESS = (
    Verdict.READY,
    Verdict.SUSPECT,
    Verdict.LOADING,
    Verdict.FETCHING,
    Verdict.STARTING,
    Verdict.DRAINING,
    Verdict.UNHEALTHY,
    Verdict.FAILED,
)


@dataclass(frozen=True)
class Catalogue:
    """Workers, models of the settings, defaults, seconds since the start, the operator's rules."""

    workers: Sequence[Worker]
    configured: Sequence[ConfiguredModel]
    defaults: Mapping[ModelType, str]
    uptime_s: float
    rules: RoutingRules = field(default_factory=RoutingRules)

    @cached_property
    def _replicas(self) -> dict[str, list[Worker]]:
        by_model: dict[str, list[Worker]] = {}
        for worker in self.workers:
            by_model.setdefault(worker.lease.model.id, []).append(worker)
        return by_model

    @cached_property
    def _types(self) -> dict[str, ModelType]:
        configured = {model.id: model.type for model in self.configured}
        return configured | {i: workers[0].lease.model.type for i, workers in self._replicas.items()}

    def replicas(self, model_id: str) -> Sequence[Worker]:
        """All workers of a model, whatever their state."""
        return self._replicas.get(model_id, ())

    def type_of(self, model_id: str) -> ModelType | None:
        """None for a model that is not known."""
        return self._types.get(model_id)

    def ids_of(self, kind: ModelType) -> list[str]:
        """All known models of a type, by name."""
        return sorted(model_id for model_id, its_type in self._types.items() if its_type is kind)

    def meaning_of(self, name: str) -> str | DefaultOf:
        """What a client's name means: an id as it is, else what a worker, else what the rules say it is.

        A name that nobody explains is taken for an id.
        """
        if name in self._types:
            return name
        announced = (w.lease.model.id for w in self.workers if name in w.lease.model.aliases)
        return min(announced, default=None) or self.rules.meaning_of(name) or name

    def default_of(self, kind: ModelType) -> str | None:
        """The model that stands for its type: the operator's choice, else the only one."""
        ids = self.ids_of(kind)
        return self.defaults.get(kind) or (ids[0] if len(ids) == 1 else None)

    def id_for(self, name: str) -> str | None:
        """The known model that a client's name means; None if there is none."""
        meaning = self.meaning_of(name)
        if not isinstance(meaning, DefaultOf):
            return meaning if meaning in self._types else None
        ids = self.ids_of(meaning.type)
        ready = (i for i in ids if any(w.verdict.routable for w in self.replicas(i)))
        return self.default_of(meaning.type) or next(ready, None) or next(iter(ids), None)


class Catalogues:
    """The present catalogue. It is made anew only when what it tells has changed."""

    def __init__(
        self,
        workers: Callable[[], Sequence[Worker]],
        configured: Sequence[ConfiguredModel],
        defaults: Mapping[ModelType, str],
        rules: RoutingRules,
        clock: Callable[[], float],
    ) -> None:
        self._workers = workers
        self._configured, self._defaults, self._rules = configured, defaults, rules
        self._clock = clock
        self._started = clock()
        self._last: Catalogue | None = None

    def now(self) -> Catalogue:
        """What is known now."""
        workers, last = self._workers(), self._last
        if last is not None and last.workers is workers and last.uptime_s >= SETTLING_S:
            return last
        uptime_s = self._clock() - self._started
        # Of the uptime nothing counts but whether the gateway has settled.
        if last is None or last.workers is not workers or uptime_s >= SETTLING_S:
            last = self._last = Catalogue(workers, self._configured, self._defaults, uptime_s, self._rules)
        return last


def nearest_to_ready(replicas: Sequence[Worker]) -> Worker | None:
    """The replica that answers, or will answer, first; None if there is none."""
    return min(replicas, key=lambda w: _NEARNESS.index(w.verdict), default=None)
