"""Which models may answer a request. Pure: a function of what was asked and what is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Verdict, Worker
from msp_common.errors import InvalidRequest, ModelNotFound, Unavailable
from msp_gateway.calls import Candidate
from msp_gateway.catalogue import SETTLING_S, Catalogue, nearest_to_ready
from msp_gateway.failures import Lack
from msp_gateway.paths import RelayPath
from msp_gateway.routing_rules import DefaultOf

RETRY_AFTER_S = 2.0

MAX_REMEMBERED = 1024


@dataclass(frozen=True)
class Choice:
    """A model that may answer. `stands_in_for`: for the lack of what; None for what was asked for."""

    model_id: str
    stands_in_for: frozenset[Lack] | None = None

    @property
    def when_unavailable(self) -> bool:
        """Whether it may answer although nobody before it said a word."""
        return self.stands_in_for is None or Lack.UNAVAILABLE in self.stands_in_for


@dataclass(frozen=True)
class Option:
    """A `Choice`, with those of its replicas that the request may be sent to."""

    model_id: str
    when_unavailable: bool
    workers: Sequence[Worker]
    candidates: Mapping[str, Candidate]
    """By the worker's id, in the order of `workers`."""


class Resolver:
    """What follows from a catalogue, remembered as long as it is the same: one lasts for many requests.

    Only names that models answer to are remembered, and so many at once.
    """

    def __init__(self) -> None:
        self._known: Catalogue | None = None
        self._options: dict[tuple[str | None, str], tuple[Option, ...]] = {}

    def options(self, requested: str | None, path: RelayPath, known: Catalogue) -> tuple[Option, ...]:
        """As `resolve`, and who serves them."""
        if known is not self._known:
            self._known, self._options = known, {}
        what = requested, path.path
        options = self._options.get(what)
        if options is None:
            options = tuple(_option(choice, path, known) for choice in resolve(requested, path, known))
            if len(self._options) >= MAX_REMEMBERED:
                self._options.clear()
            self._options[what] = options
        return options


def _option(choice: Choice, path: RelayPath, known: Catalogue) -> Option:
    workers = serving(known.replicas(choice.model_id), path)
    candidates = {worker.id: Candidate(worker, choice.stands_in_for) for worker in workers}
    return Option(choice.model_id, choice.when_unavailable, workers, candidates)


def resolve(requested: str | None, path: RelayPath, known: Catalogue) -> tuple[Choice, ...]:
    """The models that may answer, the preferred one first; each has a replica that is ready.

    For a model that was named, only those stand in that the operator said; for the default of a type then
    any other model of the type. The first of what is returned may be asked without more ado.
    Raises ModelNotFound, InvalidRequest for a model of the wrong kind, and Unavailable.
    """
    meaning = DefaultOf(path.type) if requested is None else known.meaning_of(requested)
    if isinstance(meaning, DefaultOf):
        if path.path not in meaning.type.paths:
            who = f"{requested} stands for the default {meaning.type} model, which"
            raise _wrong_kind(who, meaning.type, path)
        return _default(meaning.type, path, known)
    return _named(requested or "", meaning, path, known)


def serving(workers: Sequence[Worker], path: RelayPath) -> list[Worker]:
    """Those that requests for this path may be sent to."""
    return [
        w
        for w in workers
        if w.verdict.routable and path.path in (w.lease.capabilities.paths or w.lease.model.type.paths)
    ]


def _named(requested: str, model_id: str, path: RelayPath, known: Catalogue) -> tuple[Choice, ...]:
    kind = known.type_of(model_id)
    stand_ins = _stand_ins(model_id, path, known)
    if kind is None and not known.rules.stand_ins(model_id):
        shown = repr(requested[:200]) + (f" (an alias of {model_id})" if model_id != requested else "")
        raise _unknown(known, f"The model {shown} does not exist; GET /v1/models lists those that do.")
    if kind is not None and path.path not in kind.paths:
        raise _wrong_kind(f"{model_id} is {_article(kind)} model and", kind, path)
    replicas = known.replicas(model_id)
    if serving(replicas, path):
        return (Choice(model_id), *stand_ins)
    if any(w.verdict.routable for w in replicas):
        raise InvalidRequest(
            f"The workers of {model_id} do not answer {path.path}.", param="model", code="wrong_model_type"
        )
    if any(choice.when_unavailable for choice in stand_ins):
        return _beginning_at_once(stand_ins)
    raise _not_ready(model_id, replicas)


def _default(kind: ModelType, path: RelayPath, known: Catalogue) -> tuple[Choice, ...]:
    chosen = known.default_of(kind)
    ids = known.ids_of(kind)
    ready = [model_id for model_id in ids if serving(known.replicas(model_id), path)]
    # A default of another kind that answers this path (a multimodal model that chats) is fine.
    first = chosen if chosen is not None and serving(known.replicas(chosen), path) else None
    if chosen is None and ready:
        first = ready[0]
    nobody = frozenset({Lack.UNAVAILABLE})
    # Whoever is ready answers where nobody else does, also one that the rules keep for another lack.
    told = tuple(
        Choice(choice.model_id, (choice.stands_in_for or nobody) | nobody)
        if choice.model_id in ready
        else choice
        for choice in _stand_ins(first or chosen or "", path, known)
    )
    named = {first, *(choice.model_id for choice in told)}
    others = tuple(Choice(i, nobody) for i in ready if i not in named)
    if first is not None:
        return (Choice(first), *told, *others)
    if any(choice.when_unavailable for choice in (*told, *others)):
        return _beginning_at_once((*told, *others))
    if chosen is not None:
        raise _not_ready(chosen, known.replicas(chosen))
    if ids:
        raise Unavailable(f"No {kind} model is ready yet; {len(ids)} are known.", retry_after_s=RETRY_AFTER_S)
    raise _unknown(known, f"The request names no model, and no {kind} model is known.")


def _stand_ins(model_id: str, path: RelayPath, known: Catalogue) -> tuple[Choice, ...]:
    return tuple(
        Choice(stand_in.model, stand_in.when)
        for stand_in in known.rules.stand_ins(model_id)
        if serving(known.replicas(stand_in.model), path)
    )


def _beginning_at_once(choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
    """Those that may take the place of a model which is not there come before those that only may later."""
    return tuple(sorted(choices, key=lambda choice: not choice.when_unavailable))


def _unknown(known: Catalogue, message: str) -> ModelNotFound | Unavailable:
    if known.uptime_s < SETTLING_S:
        return Unavailable(
            f"{message} The gateway has just started; workers may still be registering.",
            param="model",
            retry_after_s=RETRY_AFTER_S,
        )
    return ModelNotFound(message, param="model")


def _wrong_kind(what: str, kind: ModelType, path: RelayPath) -> InvalidRequest:
    return InvalidRequest(
        f"{what} does not answer {path.path}; it answers {' and '.join(kind.paths)}.",
        param="model",
        code="wrong_model_type",
    )


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
