"""Which model a request is for. Pure: a function of what was asked and what is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Verdict, Worker
from msp_common.errors import InvalidRequest, ModelNotFound, Unavailable
from msp_gateway.paths import RelayPath
from msp_gateway.settings import ConfiguredModel

SETTLING_S = 10.0
"""For so long after its start the gateway takes an unknown model for one that is about to register."""

RETRY_AFTER_S = 2.0


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
    """What is known at one moment: workers, models of the settings, defaults, seconds since the start."""

    workers: Sequence[Worker]
    configured: Sequence[ConfiguredModel]
    defaults: Mapping[ModelType, str]
    uptime_s: float

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

    def id_for(self, name: str) -> str | None:
        """The model id that a client's name means: an id, else a worker's alias; None if it is neither."""
        if self.type_of(name) is not None:
            return name
        return min((w.lease.model.id for w in self.workers if name in w.lease.model.aliases), default=None)


def resolve(requested: str | None, path: RelayPath, known: Catalogue) -> tuple[str, ...]:
    """Ids of the models that may answer, the preferred one first; each has a replica that is ready.

    More than one only where the client named none: those after the first stand in for it.
    Raises ModelNotFound, InvalidRequest for a model of the wrong kind, and Unavailable.
    """
    if requested is None:
        return _defaults(path, known)
    model_id = known.id_for(requested)
    kind = known.type_of(model_id) if model_id else None
    if model_id is None or kind is None:
        raise _unknown(
            known,
            f"The model {requested[:200]!r} does not exist; GET /v1/models lists those that do.",
        )
    if path.path not in kind.paths:
        raise InvalidRequest(
            f"{model_id} is {_article(kind)} model and does not answer {path.path}; it answers "
            f"{' and '.join(kind.paths)}.",
            param="model",
            code="wrong_model_type",
        )
    replicas = known.replicas(model_id)
    if serving(replicas, path):
        return (model_id,)
    if any(w.verdict.routable for w in replicas):
        raise InvalidRequest(
            f"The workers of {model_id} do not answer {path.path}.", param="model", code="wrong_model_type"
        )
    raise _not_ready(model_id, replicas)


def serving(workers: Sequence[Worker], path: RelayPath) -> list[Worker]:
    """Those that requests for this path may be sent to."""
    return [
        w
        for w in workers
        if w.verdict.routable and path.path in (w.lease.capabilities.paths or w.lease.model.type.paths)
    ]


def nearest_to_ready(replicas: Sequence[Worker]) -> Worker | None:
    """The replica that answers, or will answer, first; None if there is none."""
    return min(replicas, key=lambda w: _NEARNESS.index(w.verdict), default=None)


def _defaults(path: RelayPath, known: Catalogue) -> tuple[str, ...]:
    ids = known.ids_of(path.type)
    ready = [model_id for model_id in ids if serving(known.replicas(model_id), path)]
    chosen = known.defaults.get(path.type) or (ids[0] if len(ids) == 1 else None)
    if chosen is not None and known.type_of(chosen) not in (path.type, None):
        # A default of another kind that answers this path (a multimodal model that chats) is fine.
        ready += [chosen] if serving(known.replicas(chosen), path) else []
    if ready:
        return tuple(sorted(ready, key=lambda model_id: model_id != chosen))
    if chosen is not None:
        raise _not_ready(chosen, known.replicas(chosen))
    if ids:
        raise Unavailable(
            f"No {path.type} model is ready yet; {len(ids)} are known.", retry_after_s=RETRY_AFTER_S
        )
    raise _unknown(known, f"The request names no model, and no {path.type} model is known.")


def _unknown(known: Catalogue, message: str) -> ModelNotFound | Unavailable:
    if known.uptime_s < SETTLING_S:
        return Unavailable(
            f"{message} The gateway has just started; workers may still be registering.",
            param="model",
            retry_after_s=RETRY_AFTER_S,
        )
    return ModelNotFound(message, param="model")


def _not_ready(model_id: str, replicas: Sequence[Worker]) -> Unavailable:
    nearest = nearest_to_ready(replicas)
    if nearest is None:
        how = "no worker serves it now"
    elif nearest.lease.progress is not None and nearest.verdict in (Verdict.FETCHING, Verdict.LOADING):
        how = f"{nearest.verdict}, {nearest.lease.progress:.0%} done"
    else:
        how = nearest.verdict.value
    return Unavailable(
        f"The model {model_id} is not ready: {how}.", param="model", retry_after_s=RETRY_AFTER_S
    )


def _article(kind: ModelType) -> str:
    return f"an {kind}" if kind in (ModelType.LLM, ModelType.EMBEDDING) else f"a {kind}"
