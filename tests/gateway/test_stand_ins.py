"""Models that answer in another one's place, and how the client learns of it."""

from typing import Any

import httpx
import pytest

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, ExternalServer, Worker
from msp_gateway.routing_rules import RoutingRules
from support.fake_worker import Behaviour, FakeWorker, answers, resets
from support.gateway_clients import CHAT, post
from support.gateway_cluster import LLM, serving_gateway, worker

TOO_LONG = answers(
    400, {"error": {"message": "long", "code": "context_length_exceeded", "param": "messages"}}
)
NO_IMAGES = answers(
    400,
    {
        "error": {
            "message": "Unsupported value: this model takes text only.",
            "type": "invalid_request_error",
            "code": "unsupported_value",
            "param": "messages.0.content.1.image_url",
        }
    },
)
FULL = answers(429, {"error": {"message": "full"}}, {"retry-after": "1"})
BAD = answers(400, {"error": {"message": "no", "code": "invalid_value", "param": "top_p"}})


def standing_in(*when: str) -> RoutingRules:
    return RoutingRules.model_validate({"fallbacks": {LLM: [{"model": "org/other", "when": list(when)}]}})


@pytest.mark.parametrize(
    ("behaviour", "when"),
    [(TOO_LONG, "context"), (NO_IMAGES, "modality"), (FULL, "unavailable")],
)
async def test_a_stand_in_answers_for_what_it_stands_in_for_and_is_named(
    behaviour: Behaviour, when: str
) -> None:
    async with FakeWorker(behaviour) as one, FakeWorker() as other:
        told = (worker("one", url=one.url), worker("other", "org/other", url=other.url))
        with serving_gateway(*told, rules=standing_in(when)) as gateway:
            answer = await post(gateway, CHAT)
    assert answer.status_code == 200
    assert (answer.json()["model"], answer.headers["x-msp-model"]) == ("org/other", "org/other")
    assert len(one.seen) == 1
    assert gateway.reports.told == []


@pytest.mark.parametrize(
    ("behaviour", "when", "status"),
    [
        (TOO_LONG, ["unavailable", "modality"], 400),
        (NO_IMAGES, ["unavailable", "context"], 400),
        (FULL, ["context", "modality"], 429),
        (BAD, ["unavailable", "context", "modality"], 400),
        (resets, ["unavailable", "context", "modality"], 502),
    ],
)
async def test_for_anything_else_the_client_hears_of_the_model_that_it_named(
    behaviour: Behaviour, when: list[str], status: int
) -> None:
    async with FakeWorker(behaviour) as one, FakeWorker() as other:
        told = (worker("one", url=one.url), worker("other", "org/other", url=other.url))
        with serving_gateway(*told, rules=standing_in(*when)) as gateway:
            answer = await post(gateway, CHAT)
    assert answer.status_code == status
    assert answer.headers.get("x-msp-model", LLM) == LLM
    assert other.seen == []


async def test_what_is_too_long_for_one_replica_is_not_tried_at_the_next() -> None:
    async with FakeWorker(TOO_LONG) as one, FakeWorker(TOO_LONG) as two:
        with serving_gateway(worker("one", url=one.url), worker("two", url=two.url)) as gateway:
            answer = await post(gateway, CHAT)
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert len(one.seen) + len(two.seen) == 1


async def test_an_image_that_a_seeing_model_refuses_is_the_clients_mistake() -> None:
    sees = Capabilities(input_modalities=["text", "image"])
    async with FakeWorker(NO_IMAGES) as one, FakeWorker() as other:
        told = (
            worker("one", url=one.url, capabilities=sees),
            worker("other", "org/other", url=other.url),
        )
        with serving_gateway(*told, rules=standing_in("modality")) as gateway:
            assert (await post(gateway, CHAT)).status_code == 400
    assert other.seen == []


@pytest.mark.parametrize(("second", "status"), [(TOO_LONG, 400), (FULL, 429), (resets, 502)])
async def test_when_the_stand_in_fails_too_the_client_hears_what_may_help_it(
    second: Behaviour, status: int
) -> None:
    async with FakeWorker(TOO_LONG) as one, FakeWorker(second) as other:
        told = (worker("one", url=one.url), worker("other", "org/other", url=other.url))
        with serving_gateway(*told, rules=standing_in("context")) as gateway:
            assert (await post(gateway, CHAT)).status_code == status


async def test_names_of_openai_mean_the_default_models() -> None:
    async with FakeWorker() as llm, FakeWorker(answers(200, {"data": []})) as embedder:
        told = (
            worker("llm", url=llm.url),
            worker("emb", "org/emb", ModelType.EMBEDDING, url=embedder.url),
        )
        with serving_gateway(*told) as gateway:
            answer = await post(gateway, {**CHAT, "model": "gpt-4o-mini"})
            async with httpx.AsyncClient() as client:
                vectors = await client.post(
                    f"{gateway.url}/v1/embeddings", json={"model": "text-embedding-3-small", "input": "x"}
                )
                card = await client.get(f"{gateway.url}/v1/models/gpt-4o-mini")
                listed = await client.get(f"{gateway.url}/v1/models")
    assert (answer.json()["model"], answer.headers["x-msp-model"]) == (LLM, LLM)
    assert embedder.seen[0].json["model"] == vectors.headers["x-msp-model"] == "org/emb"
    assert card.json()["id"] == LLM
    assert [m["id"] for m in listed.json()["data"]] == [LLM, "org/emb"]


def external(url: str, **facts: Any) -> Worker:
    server = ExternalServer(served_as="llama-3", **facts)
    return worker("ext", url=url).model_copy(update={"external": server})


async def test_an_external_server_is_asked_by_its_own_name_and_with_its_own_key() -> None:
    async with FakeWorker() as server:
        told = external(server.url, api_key_env="VLLM_KEY")
        with serving_gateway(told, environ={"VLLM_KEY": "sk-there"}) as gateway:
            async with httpx.AsyncClient() as client:
                answer = await client.post(
                    f"{gateway.url}/v1/chat/completions", json=CHAT, headers={"authorization": "Bearer mine"}
                )
        with serving_gateway(external(server.url)) as gateway:
            await post(gateway, CHAT)
    assert answer.headers["x-msp-model"] == LLM
    assert server.seen[0].json["model"] == "llama-3"
    assert server.seen[0].headers["authorization"] == "Bearer sk-there"
    assert "authorization" not in server.seen[1].headers


async def test_an_external_server_that_refuses_the_gateways_key_is_not_the_clients_business() -> None:
    refuses = answers(
        401, {"error": {"message": "Incorrect API key provided: sk-there", "code": "invalid_api_key"}}
    )
    async with FakeWorker(refuses) as server:
        with serving_gateway(external(server.url)) as gateway:
            answer = await post(gateway, CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")
    assert "sk-there" not in answer.text
    assert gateway.reports.kinds == [("ext", "server_error")]
