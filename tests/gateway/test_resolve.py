"""Which model a request is for."""

import pytest

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, Verdict, Worker
from msp_common.errors import InvalidRequest, ModelNotFound, Unavailable
from msp_gateway.paths import RELAY_PATHS, RelayPath
from msp_gateway.resolve import Catalogue, resolve
from msp_gateway.settings import ConfiguredModel
from support.gateway_cluster import worker

CHAT = RELAY_PATHS["/v1/chat/completions"]
EMBED = RELAY_PATHS["/v1/embeddings"]
SPEECH = RELAY_PATHS["/v1/audio/transcriptions"]


def known(
    *workers: Worker,
    configured: tuple[ConfiguredModel, ...] = (),
    default: str | None = None,
    uptime_s: float = 60,
) -> Catalogue:
    return Catalogue(workers, configured, {ModelType.LLM: default} if default else {}, uptime_s)


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
    assert resolve(None, CHAT, catalogue) == models


def test_each_path_has_the_default_of_its_own_type() -> None:
    speech = worker("s", "org/speech", ModelType.TRANSCRIPTION)
    catalogue = known(B_LLM, EMBEDDING, speech)
    assert resolve(None, EMBED, catalogue) == ("org/emb",)
    assert resolve(None, SPEECH, catalogue) == ("org/speech",)


def test_a_multimodal_model_named_explicitly_chats() -> None:
    assert resolve("org/vis", CHAT, known(B_LLM, VISION)) == ("org/vis",)


def test_nobody_stands_in_for_a_model_that_was_named() -> None:
    assert resolve("org/b", CHAT, known(B_LLM, A_LLM)) == ("org/b",)
    with pytest.raises(Unavailable) as caught:
        resolve("org/a", CHAT, known(B_LLM, A_LOADING))
    assert caught.value.message == "The model org/a is not ready: loading, 43% done."
    assert caught.value.retry_after_s == 2


def test_a_workers_alias_names_its_model() -> None:
    assert resolve("tiny", CHAT, known(worker("b", "org/b", aliases=["tiny"]), A_LLM)) == ("org/b",)


def test_an_id_goes_before_an_alias() -> None:
    assert resolve("org/a", CHAT, known(worker("b", "org/b", aliases=["org/a"]), A_LLM)) == ("org/a",)


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
    assert resolve("org/a", CHAT, known(chats_only)) == ("org/a",)
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
