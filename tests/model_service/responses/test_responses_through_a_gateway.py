"""Responses through a gateway, with the official client."""

from collections.abc import Iterator

import httpx
import openai
import pytest

from msp_common.contracts.model_type import ModelType
from support.chat_fakes import Gate, chat_app, fake_engine
from support.gateway_cluster import Cluster, serving_gateway, worker
from support.responses_talk import ask, listen, refusal, types
from support.servers import run_server


@pytest.fixture(scope="module")
def gateway() -> Iterator[Cluster]:
    embedding = worker("e", "org/emb", ModelType.EMBEDDING)
    with (
        run_server(chat_app(fake_engine())) as url,
        serving_gateway(worker("one", "org/model", url=url), embedding) as cluster,
    ):
        yield cluster


def test_the_default_model_answers_whole_and_streamed(gateway: Cluster) -> None:
    response = ask(gateway.url, input="hello")
    assert (response.model, response.output_text) == ("org/model", "You said: hello")
    events = listen(gateway.url, input="hello")
    assert types(events)[-1] == "completed"
    assert events[-1].response.output_text == "You said: hello"


def test_refusals_pass_and_models_of_another_kind_are_named(gateway: Cluster) -> None:
    status, error = refusal(gateway.url, input="hello", previous_response_id="resp_1")
    assert (status, error["param"]) == (400, "previous_response_id")
    status, error = refusal(gateway.url, input="hello", model="org/emb")
    assert (status, error["code"]) == (400, "wrong_model_type")


def test_the_gateways_description_has_the_path(gateway: Cluster) -> None:
    described = httpx.get(f"{gateway.url}/openapi.json").json()["paths"]["/v1/responses"]
    assert list(described) == ["post"]


def test_a_worker_that_breaks_off_is_an_error_behind_what_it_said() -> None:
    gate = Gate()
    gate.fail_at = 5
    heard: list[str] = []
    with (
        run_server(chat_app(fake_engine(before_token=gate.before_token))) as url,
        serving_gateway(worker("one", "org/model", url=url)) as cluster,
        openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="-", max_retries=0) as client,
    ):
        events = client.responses.create(model="org/model", input="hello", stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            heard.extend(event.type for event in events)
    assert heard[-2:] == ["response.output_text.delta", "response.failed"]
