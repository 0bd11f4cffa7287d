"""What holds for every course of events, found out by trying many."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Verdict, Worker, WorkerLoad
from msp_common.errors import ModelNotFound, Unavailable
from msp_gateway.catalogue import Catalogue
from msp_gateway.failures import JUDGEMENTS, FailedTry, Happened, Lack, Retry, may_ask
from msp_gateway.paths import RELAY_PATHS
from msp_gateway.pick import Seen, pick
from msp_gateway.replicas import Replicas
from msp_gateway.resolve import resolve, serving
from msp_gateway.routing_rules import RoutingRules, StandIn
from support.gateway_cluster import GatewayClock, worker

MANY = settings(max_examples=200, deadline=None)

NAMES = "abcdef"
ROUTABLE = [verdict for verdict in Verdict if verdict.routable]

workers = st.lists(
    st.builds(
        lambda name, verdict, in_flight, queued, age: worker(
            name,
            verdict=verdict,
            load=WorkerLoad(in_flight=in_flight, queued=queued, last_progress_age_s=age),
        ),
        st.sampled_from(NAMES),
        st.sampled_from(ROUTABLE),
        st.integers(0, 50),
        st.integers(0, 50),
        st.none() | st.floats(0, 1000),
    ),
    unique_by=lambda w: w.id,
    max_size=len(NAMES),
)
seen = st.builds(
    Seen,
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 50)),
    st.frozensets(st.sampled_from(NAMES)),
    st.dictionaries(st.sampled_from(NAMES), st.floats(0.1, 1)),
)


@MANY
@given(workers, seen, st.integers(0), st.none() | st.text(max_size=5))
def test_every_replica_is_reachable_and_none_twice(
    replicas: list[Worker], seen: Seen, turn: int, conversation: str | None
) -> None:
    order = pick(replicas, seen, turn, conversation)
    assert sorted(w.id for w in order) == sorted(w.id for w in replicas)


@MANY
@given(workers, seen, st.integers(0), st.none() | st.text(max_size=5))
def test_who_is_in_doubt_is_asked_only_after_those_who_are_not(
    replicas: list[Worker], seen: Seen, turn: int, conversation: str | None
) -> None:
    tiers = [
        (w.id in seen.cooling, (w.lease.load.last_progress_age_s or 0) >= 30, w.verdict is Verdict.SUSPECT)
        for w in pick(replicas, seen, turn, conversation)
    ]
    assert tiers == sorted(tiers)


@MANY
@given(workers, seen, st.integers(0, 100))
def test_a_conversation_never_waits_behind_more_than_twice_the_least_work(
    replicas: list[Worker], seen: Seen, turn: int
) -> None:
    def work(w: Worker) -> float:
        busy = seen.in_flight.get(w.id, 0) + w.lease.load.in_flight + w.lease.load.queued
        return (busy + 1) / seen.shares.get(w.id, 1)

    if replicas:
        least, mine = pick(replicas, seen, turn)[0], pick(replicas, seen, turn, "mine")[0]
        assert work(mine) <= 2 * work(least) + 1


models = st.lists(
    st.tuples(st.integers(1, 4), st.frozensets(st.sampled_from(Lack), min_size=1)), min_size=1, max_size=4
)
misses = st.lists(st.sampled_from([what for what in Happened if what is not Happened.CLIENT_LEFT]))


def asked(chain: list[tuple[int, frozenset[Lack]]], outcomes: list[Happened]) -> list[FailedTry]:
    """The tries of one request that fails wherever it comes, as the relay makes them."""
    tries: list[FailedTry] = []
    course = iter(outcomes)
    for place, (replicas, lacks) in enumerate(chain):
        for replica in range(replicas):
            if may_ask(f"m{place}", lacks if place else None, tries):
                what = next(course, Happened.REFUSED)
                tries.append(FailedTry(what, f"m{place}-{replica}", f"m{place}"))
    return tries


@MANY
@given(models, misses)
def test_a_request_that_may_be_poison_is_received_by_two_replicas_of_one_model_at_most(
    chain: list[tuple[int, frozenset[Lack]]], outcomes: list[Happened]
) -> None:
    harmed = [t for t in asked(chain, outcomes) if JUDGEMENTS[t.what].retry is Retry.ONE_OTHER]
    assert len(harmed) <= 2
    assert len({t.model_id for t in harmed}) <= 1


@MANY
@given(models, misses)
def test_nobody_is_asked_twice_nor_after_the_last_word(
    chain: list[tuple[int, frozenset[Lack]]], outcomes: list[Happened]
) -> None:
    tries = asked(chain, outcomes)
    assert max(Counter(t.worker_id for t in tries).values(), default=1) == 1
    assert all(JUDGEMENTS[t.what].retry is not Retry.NONE for t in tries[:-1])


@MANY
@given(models, misses)
def test_a_model_that_cannot_is_not_asked_again(
    chain: list[tuple[int, frozenset[Lack]]], outcomes: list[Happened]
) -> None:
    tries = asked(chain, outcomes)
    for place, tried in enumerate(tries):
        if JUDGEMENTS[tried.what].retry is Retry.STAND_IN:
            assert all(later.model_id != tried.model_id for later in tries[place + 1 :])


@MANY
@given(st.integers(1, 4))
def test_every_replica_is_tried_while_they_refuse(replicas: int) -> None:
    chain = [(replicas, frozenset(Lack)), (2, frozenset({Lack.UNAVAILABLE})), (3, frozenset({Lack.CONTEXT}))]
    assert len(asked(chain, [])) == replicas + 2


ids = [f"m{number}" for number in range(5)]
catalogues = st.builds(
    lambda told, default, chains: Catalogue(
        [worker(f"w{number}", model, verdict=verdict) for number, (model, verdict) in enumerate(told)],
        (),
        {ModelType.LLM: default} if default else {},
        60,
        RoutingRules(
            fallbacks={
                model: [StandIn(model=i, when=when) for i, when in chain.items() if i != model]
                for model, chain in chains.items()
            }
        ),
    ),
    st.lists(st.tuples(st.sampled_from(ids), st.sampled_from(Verdict)), max_size=8),
    st.none() | st.sampled_from(ids),
    st.dictionaries(
        st.sampled_from(ids),
        st.dictionaries(st.sampled_from(ids), st.frozensets(st.sampled_from(Lack), min_size=1), max_size=3),
        max_size=3,
    ),
)


@MANY
@given(catalogues, st.none() | st.sampled_from(ids))
def test_whatever_is_resolved_can_be_asked_at_once_and_names_no_model_twice(
    known: Catalogue, requested: str | None
) -> None:
    path = RELAY_PATHS["/v1/chat/completions"]
    try:
        choices = resolve(requested, path, known)
    except (ModelNotFound, Unavailable):
        named = requested or known.default_of(ModelType.LLM)
        assert not serving(known.replicas(named or ""), path)
        return
    assert len({choice.model_id for choice in choices}) == len(choices)
    assert all(serving(known.replicas(choice.model_id), path) for choice in choices)
    assert may_ask(choices[0].model_id, choices[0].stands_in_for, [])
    assert all(choice.stands_in_for is not None for choice in choices[1:])


@MANY
@given(catalogues)
def test_a_request_that_names_no_model_is_answered_while_any_of_its_type_is_ready(known: Catalogue) -> None:
    path = RELAY_PATHS["/v1/chat/completions"]
    if any(w.verdict.routable for w in known.workers):
        assert resolve(None, path, known)


events = st.lists(
    st.tuples(st.sampled_from(["failed", "answered", "started", "wait"]), st.sampled_from(NAMES)), max_size=40
)


@MANY
@given(events, st.floats(0, 300))
def test_a_cool_down_always_ends(course: list[tuple[str, str]], cooldown_s: float) -> None:
    clock = GatewayClock()
    replicas = Replicas(cooldown_s, clock, slow_start_s=20)
    for what, name in course:
        if what == "wait":
            clock.now += 1
        else:
            getattr(replicas, what)(name)
    last = clock.now
    assert replicas.cooling() <= set(NAMES)
    clock.now = last + cooldown_s + 1e-6
    assert replicas.cooling() == set()


@MANY
@given(st.lists(st.lists(st.sampled_from(NAMES), unique=True, min_size=1), min_size=1, max_size=10))
def test_slow_start_always_ends(snapshots: list[list[str]]) -> None:
    clock = GatewayClock()
    replicas = Replicas(5, clock, slow_start_s=20)
    for names in snapshots:
        replicas.observe([worker(name) for name in names])
        clock.now += 1
        assert all(0.1 <= share < 1 for share in replicas.seen().shares.values())
    clock.now += 20
    assert replicas.seen().shares == {}
