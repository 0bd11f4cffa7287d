"""Which model a request is for."""

from typing import Any

import pytest

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, Verdict, Worker
from msp_common.errors import InvalidRequest, ModelNotFound, Unavailable
from msp_gateway.catalogue import Catalogue, Catalogues
from msp_gateway.failures import Lack
from msp_gateway.paths import RELAY_PATHS, RelayPath
from msp_gateway.resolve import MAX_REMEMBERED, Choice, Resolver, resolve
from msp_gateway.routing_rules import RoutingRules
from msp_gateway.settings import ConfiguredModel
from support.gateway_cluster import GatewayClock, worker

CHAT = RELAY_PATHS["/v1/chat/completions"]
EMBED = RELAY_PATHS["/v1/embeddings"]
SPEECH = RELAY_PATHS["/v1/audio/transcriptions"]


def known(
    *workers: Worker,
    configured: tuple[ConfiguredModel, ...] = (),
    default: str | None = None,
    uptime_s: float = 60,
    rules: dict[str, Any] | None = None,
) -> Catalogue:
    said = RoutingRules.model_validate(rules or {})
    return Catalogue(workers, configured, {ModelType.LLM: default} if default else {}, uptime_s, said)


def ids(requested: str | None, path: RelayPath, catalogue: Catalogue) -> tuple[str, ...]:
    return tuple(choice.model_id for choice in resolve(requested, path, catalogue))


LOADING = Verdict.LOADING
B_LLM = worker("b", "org/b")
A_LLM = worker("a", "org/a")
A_LOADING = worker("a", "org/a", verdict=LOADING, progress=0.43)
EMBEDDING = worker("e", "org/emb", ModelType.EMBEDDING)
VISION = worker("v", "org/vis", ModelType.MULTIMODAL)


@pytest.mark.parametrize(
    ("catalogue", "models"),
    [
        pytest.param(known(B_LLM, EMBEDDING, VISION), ("org/b",), id="the only one of the type"),
        pytest.param(known(B_LLM, A_LLM), ("org/a", "org/b"), id="the first ready one by name"),
        pytest.param(known(B_LLM, A_LLM, default="org/b"), ("org/b", "org/a"), id="the setting's first"),
        pytest.param(known(B_LLM, A_LOADING), ("org/b",), id="the first ready one, not the first"),
        pytest.param(known(B_LLM, A_LOADING, default="org/a"), ("org/b",), id="a stand-in for the setting's"),
        pytest.param(known(B_LLM, default="org/gone"), ("org/b",), id="a stand-in for one nobody serves"),
        pytest.param(known(B_LLM, VISION, default="org/vis"), ("org/vis", "org/b"), id="one that also chats"),
        pytest.param(
            known(worker("a", "org/a", verdict=Verdict.SUSPECT)), ("org/a",), id="suspect is better than none"
        ),
    ],
)
def test_without_a_model_the_default_answers(catalogue: Catalogue, models: tuple[str, ...]) -> None:
    assert ids(None, CHAT, catalogue) == models


def test_each_path_has_the_default_of_its_own_type() -> None:
    speech = worker("s", "org/speech", ModelType.TRANSCRIPTION)
    catalogue = known(B_LLM, EMBEDDING, speech)
    assert ids(None, EMBED, catalogue) == ("org/emb",)
    assert ids(None, SPEECH, catalogue) == ("org/speech",)


def test_a_multimodal_model_named_explicitly_chats() -> None:
    assert ids("org/vis", CHAT, known(B_LLM, VISION)) == ("org/vis",)


def test_nobody_stands_in_for_a_model_that_was_named() -> None:
    assert ids("org/b", CHAT, known(B_LLM, A_LLM)) == ("org/b",)
    with pytest.raises(Unavailable) as caught:
        resolve("org/a", CHAT, known(B_LLM, A_LOADING))
    assert caught.value.message == "The model org/a is not ready: loading, 43% done."
    assert caught.value.retry_after_s == 2


def test_a_workers_alias_names_its_model() -> None:
    assert ids("tiny", CHAT, known(worker("b", "org/b", aliases=["tiny"]), A_LLM)) == ("org/b",)


def test_an_id_goes_before_an_alias() -> None:
    assert ids("org/a", CHAT, known(worker("b", "org/b", aliases=["org/a"]), A_LLM)) == ("org/a",)


@pytest.mark.parametrize("name", [None, "org/nobody"])
def test_unknown_is_not_found_but_only_unavailable_just_after_the_start(name: str | None) -> None:
    with pytest.raises(Unavailable) as early:
        resolve(name, CHAT, known(uptime_s=9.9))
    assert early.value.retry_after_s
    with pytest.raises(ModelNotFound) as late:
        resolve(name, CHAT, known(EMBEDDING, uptime_s=10))
    assert (late.value.code, late.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("model", "path", "kind"),
    [("org/emb", CHAT, "embedding"), ("org/b", EMBED, "llm"), ("org/vis", SPEECH, "mu")],
)
def test_a_model_of_the_wrong_kind_is_the_clients_mistake(model: str, path: RelayPath, kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"an? {kind}") as caught:
        resolve(model, path, known(B_LLM, EMBEDDING, VISION))
    assert caught.value.param == "model"


def test_a_path_that_a_models_workers_do_not_answer_is_the_clients_mistake() -> None:
    chats_only = worker("a", "org/a", capabilities=Capabilities(paths=["/v1/chat/completions"]))
    assert ids("org/a", CHAT, known(chats_only)) == ("org/a",)
    with pytest.raises(InvalidRequest, match="do not answer /v1/completions"):
        resolve("org/a", RELAY_PATHS["/v1/completions"], known(chats_only))


def test_a_configured_model_is_known_before_any_worker_serves_it() -> None:
    catalogue = known(configured=(ConfiguredModel("org/soon", ModelType.LLM),))
    for name in ("org/soon", None):
        with pytest.raises(Unavailable, match="no worker serves it now"):
            resolve(name, CHAT, catalogue)


def test_when_no_model_of_the_type_is_ready_the_client_may_come_back() -> None:
    with pytest.raises(Unavailable, match="No llm model is ready yet; 2 are known"):
        resolve(None, CHAT, known(A_LOADING, worker("b", "org/b", verdict=Verdict.UNHEALTHY)))


@pytest.mark.parametrize("verdict", [v for v in Verdict if not v.routable])
def test_only_what_can_be_routed_to_counts_as_ready(verdict: Verdict) -> None:
    with pytest.raises(Unavailable):
        resolve("org/a", CHAT, known(worker("a", "org/a", verdict=verdict)))


GPT = {"aliases": {"gpt": "default:llm", "house": "org/b", "embed": "default:embedding"}}


@pytest.mark.parametrize(
    ("name", "catalogue", "models"),
    [
        pytest.param("gpt", known(B_LLM, A_LLM, rules=GPT), ("org/a", "org/b"), id="the default of a type"),
        pytest.param("gpt", known(B_LLM, A_LLM, default="org/b", rules=GPT), ("org/b", "org/a"), id="chosen"),
        pytest.param("house", known(B_LLM, A_LLM, rules=GPT), ("org/b",), id="a model"),
        pytest.param(
            "gpt", known(worker("b", "org/b", aliases=["gpt"]), A_LLM, rules=GPT), ("org/b",), id="a worker's"
        ),
        pytest.param("gpt", known(worker("g", "gpt"), A_LLM, rules=GPT), ("gpt",), id="a model's own id"),
    ],
)
def test_what_an_alias_means(name: str, catalogue: Catalogue, models: tuple[str, ...]) -> None:
    assert ids(name, CHAT, catalogue) == models


def test_an_alias_of_a_type_is_for_the_paths_of_that_type() -> None:
    catalogue = known(B_LLM, EMBEDDING, rules=GPT)
    assert ids("embed", EMBED, catalogue) == ("org/emb",)
    with pytest.raises(InvalidRequest, match="embed stands for the default embedding model, which does not"):
        resolve("embed", CHAT, catalogue)


def test_an_alias_of_a_model_that_nobody_knows_is_not_found_and_says_why() -> None:
    with pytest.raises(ModelNotFound, match=r"'house' \(an alias of org/b\) does not exist"):
        resolve("house", CHAT, known(A_LLM, rules=GPT))


def test_a_card_can_be_asked_for_by_an_alias() -> None:
    catalogue = known(B_LLM, A_LLM, EMBEDDING, rules=GPT)
    assert [catalogue.id_for(name) for name in ("gpt", "house", "embed", "org/a", "nobody")] == [
        "org/a",
        "org/b",
        "org/emb",
        "org/a",
        None,
    ]


CHAIN = {
    "fallbacks": {
        "org/a": [
            {"model": "org/vis", "when": ["modality"]},
            "org/b",
            {"model": "org/gone", "when": ["context"]},
        ]
    }
}


def test_only_those_that_the_operator_named_stand_in_for_a_model_that_was_named() -> None:
    assert resolve("org/a", CHAT, known(A_LLM, B_LLM, VISION, rules=CHAIN)) == (
        Choice("org/a"),
        Choice("org/vis", frozenset({Lack.MODALITY})),
        Choice("org/b", frozenset({Lack.UNAVAILABLE})),
    )


@pytest.mark.parametrize("absent", [(A_LOADING,), ()])
def test_a_stand_in_answers_for_a_model_that_is_not_there(absent: tuple[Worker, ...]) -> None:
    first = resolve("org/a", CHAT, known(*absent, B_LLM, VISION, rules=CHAIN))[0]
    assert (first.model_id, first.when_unavailable) == ("org/b", True)


def test_one_that_stands_in_for_other_lacks_alone_does_not() -> None:
    with pytest.raises(Unavailable, match="org/a is not ready"):
        resolve("org/a", CHAT, known(A_LOADING, VISION, rules=CHAIN))


def test_the_defaults_own_stand_ins_come_before_any_other_model_of_its_type() -> None:
    z_llm, vision_first = worker("z", "org/z"), known(A_LLM, B_LLM, VISION, default="org/a", rules=CHAIN)
    assert ids(None, CHAT, vision_first) == ("org/a", "org/vis", "org/b")
    rules = {"fallbacks": {"org/a": ["org/z"]}}
    assert ids(None, CHAT, known(A_LLM, B_LLM, z_llm, default="org/a", rules=rules)) == (
        "org/a",
        "org/z",
        "org/b",
    )
    assert ids(None, CHAT, known(A_LOADING, B_LLM, z_llm, default="org/a", rules=rules)) == ("org/z", "org/b")


def test_the_catalogue_is_made_anew_only_when_something_has_changed() -> None:
    clock, workers = GatewayClock(), [[A_LLM]]
    catalogues = Catalogues(lambda: workers[0], (), {}, RoutingRules(), clock).now
    early = catalogues()
    clock.now += 11
    late = catalogues()
    assert (early.uptime_s, late.uptime_s) == (0, 11)
    clock.now += 11
    assert catalogues() is late
    workers[0] = [B_LLM]
    assert catalogues().ids_of(ModelType.LLM) == ["org/b"]


def test_what_was_resolved_holds_for_one_catalogue_only() -> None:
    resolver = Resolver()
    both, one = known(A_LLM, B_LLM), known(B_LLM)
    [option] = resolver.options("org/a", CHAT, both)
    assert (option.model_id, option.when_unavailable, option.workers) == ("org/a", True, [A_LLM])
    assert [candidate.worker for candidate in option.candidates.values()] == [A_LLM]
    assert resolver.options("org/a", CHAT, both) is resolver.options("org/a", CHAT, both)
    with pytest.raises(ModelNotFound):
        resolver.options("org/a", CHAT, one)
    assert [option.workers for option in resolver.options("org/b", CHAT, one)] == [[B_LLM]]


def test_names_that_clients_make_up_do_not_pile_up() -> None:
    resolver = Resolver()
    catalogue = known(A_LLM, rules={"aliases": {f"nick{n}": "org/a" for n in range(MAX_REMEMBERED + 10)}})
    for n in range(MAX_REMEMBERED + 10):
        resolver.options(f"nick{n}", CHAT, catalogue)
    assert len(resolver._options) <= MAX_REMEMBERED


def test_while_the_gateway_settles_a_catalogue_is_not_made_for_each_request() -> None:
    clock, workers = GatewayClock(), [A_LLM]
    catalogues = Catalogues(lambda: workers, (), {}, RoutingRules(), clock).now
    first = catalogues()
    clock.now += 1
    assert catalogues() is first
    clock.now += 60
    settled = catalogues()
    assert settled is not first
    assert catalogues() is settled
