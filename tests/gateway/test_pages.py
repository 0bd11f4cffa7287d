"""What the gateway tells of models, programs and itself."""

import asyncio

import httpx
import pytest
from openai import AsyncOpenAI, NotFoundError

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, ServiceStatus, Verdict
from msp_gateway.catalogue import Catalogue
from msp_gateway.model_list import model_cards
from msp_gateway.settings import ConfiguredModel, GatewaySettings
from support.gateway_cluster import Cluster, FakeDirectory, serving_gateway, worker

LOADING = worker("l", "org/loading", verdict=Verdict.LOADING, progress=0.5)
READY = worker(
    "r",
    "org/ready",
    aliases=["tiny"],
    capabilities=Capabilities(context_length=4096, tools=True),
    started_at=2000.7,
)
VISION = worker(
    "v",
    "org/vision",
    ModelType.MULTIMODAL,
    capabilities=Capabilities(input_modalities=["text", "image"], context_length=2048),
)
EMBEDDING = worker("e", "an-embedder", ModelType.EMBEDDING)
SPEECH = worker("s", "org/speech", ModelType.TRANSCRIPTION, verdict=Verdict.LOADING)
ALL = (SPEECH, EMBEDDING, VISION, READY, LOADING)


async def get(gateway: Cluster, path: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(f"{gateway.url}{path}")


async def test_models_are_listed_llms_first_without_a_null() -> None:
    with serving_gateway(*ALL, models="org/soon:llm,org/ready:llm") as gateway:
        page = (await get(gateway, "/v1/models")).json()
    assert page["object"] == "list"
    assert [(m["id"], m["type"], m["state"]) for m in page["data"]] == [
        ("org/loading", "llm", "loading"),
        ("org/ready", "llm", "ready"),
        ("org/soon", "llm", "absent"),
        ("org/vision", "multimodal", "ready"),
        ("an-embedder", "embedding", "ready"),
        ("org/speech", "transcription", "loading"),
    ]
    for card in page["data"]:
        assert None not in card.values()
        assert card["object"] == "model"
        assert isinstance(card["created"], int)
        assert card["owned_by"]
        assert None not in [value for provider in card.get("providers", []) for value in provider.values()]


async def test_a_card_tells_what_chat_clients_read() -> None:
    with serving_gateway(*ALL) as gateway:
        cards = {m["id"]: m for m in (await get(gateway, "/v1/models")).json()["data"]}
    assert cards["org/ready"]["created"] == 2000
    assert cards["org/ready"]["context_length"] == 4096
    assert cards["org/ready"]["aliases"] == ["tiny"]
    assert cards["org/ready"]["providers"] == [
        {"provider": "msp", "status": "live", "supports_tools": True, "context_length": 4096}
    ]
    assert cards["org/vision"]["architecture"]["input_modalities"] == ["text", "image"]
    assert cards["org/loading"]["progress"] == 0.5
    assert cards["org/loading"]["providers"][0]["supports_tools"] is False
    assert cards["an-embedder"]["owned_by"] == "local"
    assert "providers" not in cards["an-embedder"]
    assert cards["org/speech"]["architecture"]["input_modalities"] == ["audio"]


def test_the_chosen_default_is_the_first_of_its_type() -> None:
    known = Catalogue(ALL, (), {ModelType.LLM: "org/ready"}, 0)
    assert [card.id for card in model_cards(known, 0)][:2] == ["org/ready", "org/loading"]


def test_replicas_are_one_card_with_the_best_state_and_the_smallest_context() -> None:
    replicas = [
        worker("a", verdict=Verdict.UNHEALTHY, capabilities=Capabilities(context_length=100), started_at=5),
        worker("b", capabilities=Capabilities(context_length=200), started_at=9),
    ]
    (card,) = model_cards(Catalogue(replicas, (), {}, 0), 0)
    assert (card.state, card.replicas, card.context_length, card.created) == ("ready", 2, 100, 5)


async def test_a_model_is_found_by_its_raw_and_its_encoded_id_and_by_its_alias() -> None:
    with serving_gateway(*ALL) as gateway:
        for path in ("/v1/models/org/ready", "/v1/models/org%2Fready", "/v1/models/tiny"):
            assert (await get(gateway, path)).json()["id"] == "org/ready"
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="k", max_retries=0) as client:
            assert (await client.models.retrieve("org/ready")).id == "org/ready"
            assert (await client.models.list()).data[0].id == "org/loading"
            with pytest.raises(NotFoundError) as caught:
                await client.models.retrieve("org/nobody")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_models_are_listed_at_once_with_nothing_but_settings_known() -> None:
    with serving_gateway(models="org/soon:llm", after_start_s=0) as gateway:
        gateway.directory.reason_away = "not asked yet"
        gateway.pages.listed = None
        page = (await get(gateway, "/v1/models")).json()
    assert [m["id"] for m in page["data"]] == ["org/soon"]


async def test_health_is_good_from_the_first_worker_and_degraded_until_one_is_ready() -> None:
    with serving_gateway() as gateway:
        before = await get(gateway, "/health")
        gateway.directory.told = [LOADING]
        loading = await get(gateway, "/health")
        gateway.directory.told = [LOADING, READY]
        ready = await get(gateway, "/health")
        gateway.directory.reason_away, gateway.directory.age = "ConnectError", 12.5
        away = await get(gateway, "/health")
    assert (before.status_code, before.json()["status"]) == (503, "down")
    assert (loading.status_code, loading.json()["status"]) == (200, "degraded")
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert (away.status_code, away.json()["status"]) == (200, "degraded")
    assert away.json()["snapshot_age_s"] == 12.5
    assert ready.json()["authentication"] == "off"
    assert ready.json()["parts"]["workers"] == {"status": "ok", "reason": "1 of 2 ready"}


async def test_a_background_task_that_broke_makes_the_gateway_unhealthy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran = asyncio.Event()

    async def broken() -> None:
        ran.set()
        raise ValueError("a bug")

    app = Cluster(FakeDirectory([READY])).app(background={"directory": broken})
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        await ran.wait()
        answer = await client.get("/health")
    assert answer.json()["reason"] == "background task broke: directory; restart the gateway"
    assert "the background task directory broke" in caplog.text


async def test_services_names_the_gateway_first_and_once() -> None:
    with serving_gateway(READY, url="http://gw:8080") as gateway:
        gateway.pages.listed = [
            ServiceStatus(name="service-registry", kind="service-registry", status="ok"),
            ServiceStatus(name="gateway", kind="gateway", status="down"),
            ServiceStatus(name="r", kind="worker", status="ready"),
        ]
        services = (await get(gateway, "/services")).json()["services"]
    assert [(s["name"], s["status"], s["url"]) for s in services] == [
        ("gateway", "ok", "http://gw:8080"),
        ("service-registry", "ok", None),
        ("r", "ready", None),
    ]


async def test_services_are_the_last_known_while_the_service_registry_is_away() -> None:
    with serving_gateway(READY) as gateway:
        gateway.pages.listed, gateway.directory.age = None, 42.0
        services = (await get(gateway, "/services")).json()["services"]
        gpus = await get(gateway, "/gpu-stats")
    assert [(s["name"], s["status"]) for s in services[1:]] == [("service-registry", "down"), ("r", "ready")]
    assert "42 s ago" in services[2]["reason"]
    assert gpus.status_code == 503
    assert gpus.json()["error"]["code"] == "service_unavailable"


async def test_gpu_stats_are_the_service_registrys() -> None:
    with serving_gateway(READY) as gateway:
        stats = (await get(gateway, "/gpu-stats")).json()
    assert (stats["gpus"], stats["reason"]) == (None, "no worker reports a GPU")


async def test_docs_show_the_relayed_paths() -> None:
    with serving_gateway(READY) as gateway:
        schema = (await get(gateway, "/openapi.json")).json()
        docs = await get(gateway, "/docs")
    chat = schema["paths"]["/v1/chat/completions"]["post"]
    assert chat["requestBody"]["content"]["application/json"]["schema"]["required"] == ["messages"]
    for path in ("/v1/audio/transcriptions", "/v1/audio/translations"):
        speech = schema["paths"][path]["post"]
        assert "multipart/form-data" in speech["requestBody"]["content"]
    assert "ErrorEnvelope" in schema["components"]["schemas"]
    assert docs.status_code == 200
    assert "https://" not in docs.text


async def test_livez_answers_with_nothing_known() -> None:
    with serving_gateway() as gateway:
        assert (await get(gateway, "/livez")).status_code == 200


def test_configured_models_are_read_from_one_variable() -> None:
    settings = GatewaySettings.load({"GATEWAY_MODELS": "org/a:llm, b:vision"})
    assert settings.models == (
        ConfiguredModel("org/a", ModelType.LLM),
        ConfiguredModel("b", ModelType.MULTIMODAL),
    )
