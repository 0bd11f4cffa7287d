"""Cluster mode as the user's documents start it, with the shipped files and models' names as they are.

Only the reservations of GPUs are taken out, which no engine without one can fulfil; those have a test of
their own. The trained samples stand for the models, mirrored first; then the hub goes away.
"""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from support.compose_checkout import Checkout
from support.compose_hub import hub_of_samples
from support.compose_questions import CAPITAL, ask, asking_all_the_time
from support.compose_waiting import (
    GATEWAY,
    REGISTRY,
    containers,
    leftovers,
    verdicts,
    volumes,
    wait_for_job,
    wait_for_worker,
    wait_for_workers,
    wait_until,
)
from support.sample_prompts import endless
from support.user_commands import CHAT_UI_ADDRESSES, WORKER_PORTS

pytestmark = pytest.mark.stack

WORKERS = ("llm-primary", "llm-secondary", "multimodal", "embedding", "transcription")
PRIMARY, SECONDARY, EMBEDDER, SEER, HEARER = WORKER_PORTS.values()
ADMIN = {"Authorization": "Bearer my-registry-token"}


@pytest.fixture(scope="module")
def user(checkout: Checkout) -> Iterator[Checkout]:
    """A user whose models were mirrored while there was a hub, and who then started the cluster."""
    checkout.types("env")
    checkout.sets(MINIO_ROOT_PASSWORD="root-password-of-mine", MINIO_SVC_PASSWORD="service-password-of-mine")
    checkout.sets(CLUSTER_TOKEN="my-cluster-token", GATEWAY_ADMIN_TOKEN="my-gateway-token")
    checkout.sets(REGISTRY_ADMIN_TOKEN="my-registry-token", COMPOSE_PROFILES="transcription")
    # All reservations have a line of their own, and nothing else is on it.
    checkout.edits("docker-compose.gpu-cluster.yml", r"^    deploy: \{.*\}\n", "", places=len(WORKERS))
    with hub_of_samples() as address:
        checkout.sets(HF_ENDPOINT=address)
        # As ./scripts/offline-setup.sh does.
        checkout.shell("docker compose build")
        checkout.shell("docker compose up -d --wait registry")
        for model in WORKER_PORTS.values():
            answer = httpx.post(f"{REGISTRY}/models/{model}/download", headers=ADMIN)
            assert answer.status_code == 202, answer.text
            wait_for_job(f"{REGISTRY}/jobs/{answer.json()['id']}")
    checkout.types("cluster up")
    wait_for_workers(*WORKERS)
    yield checkout
    checkout.types("overlay down")
    assert containers() == {}
    assert "model-service-platform_minio-data" in volumes()
    checkout.types("standard down -v")
    assert leftovers() == []


def asked(user: Checkout) -> tuple[str, str]:
    """The user's curl, and the model that its answer names in its body; then the header's, of the same."""
    body = json.loads(user.types("chat"))
    assert body["choices"][0]["message"]["content"]
    question = {"messages": [{"role": "user", "content": "Hello!"}], "stream": False}
    header = httpx.post(f"{GATEWAY}/v1/chat/completions", json=question).headers["x-msp-model"]
    return body["model"], header


def test_the_cluster_is_verified_as_written(user: Checkout) -> None:
    assert {m["id"] for m in json.loads(user.types("models"))["models"]} == set(WORKER_PORTS.values())
    services = json.loads(user.types("services"))["services"]
    assert {s["model"]["id"]: s["status"] for s in services if s["kind"] == "worker"} == dict.fromkeys(
        WORKER_PORTS.values(), "ready"
    )
    stats = json.loads(user.types("gpu stats"))
    assert stats["gpus"] is None
    assert stats["reason"]
    assert asked(user) == (PRIMARY, PRIMARY)
    assert json.loads(user.types("gateway health"))["status"] == "ok"


def test_both_launch_forms_start_the_same_containers(user: Checkout) -> None:
    before = containers()
    user.types("overlay up")
    assert containers() == before
    assert set(WORKERS) < before.keys()
    assert not {"llm", "tinyllama"} & before.keys()


@pytest.mark.parametrize(("port", "model"), WORKER_PORTS.items())
@pytest.mark.usefixtures("user")
def test_each_service_answers_at_its_own_port(port: int, model: str) -> None:
    base = f"http://localhost:{port}"
    assert httpx.get(f"{base}/health").status_code == 200
    assert [m["id"] for m in httpx.get(f"{base}/v1/models").json()["data"]] == [model]
    assert httpx.get(f"{base}/gpu-stats").json()["gpus"] is None
    if port in (8000, 8001, 8003):
        question = {"messages": [{"role": "user", "content": "Hello!"}]}
        answer = httpx.post(f"{base}/v1/chat/completions", json=question, timeout=60)
        assert answer.json()["model"] == model


@pytest.mark.usefixtures("user")
def test_a_stream_arrives_in_pieces(client: openai.OpenAI) -> None:
    question: list[Any] = [{"role": "user", "content": CAPITAL}]
    chunks = list(client.chat.completions.create(model=PRIMARY, messages=question, stream=True))
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert len(pieces) > 2
    assert "Paris" in "".join(pieces)


@pytest.mark.usefixtures("user")
def test_texts_on_one_topic_are_nearer_than_texts_on_two(client: openai.OpenAI) -> None:
    texts = [
        "The rocket flew to the moon.",
        "The astronaut looked at the stars.",
        "Boil the pasta in salted water.",
    ]
    vectors = [d.embedding for d in client.embeddings.create(model=EMBEDDER, input=texts).data]
    near, far = (sum(a * b for a, b in zip(vectors[0], v, strict=True)) for v in vectors[1:])
    assert near > far


@pytest.mark.usefixtures("user")
def test_a_picture_is_described(client: openai.OpenAI, samples: Path) -> None:
    image = base64.b64encode((samples / "images/red-circle.png").read_bytes()).decode()
    parts = [
        {"type": "text", "text": "What is in the picture?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
    ]
    question: list[Any] = [{"role": "user", "content": parts}]
    answer = client.chat.completions.create(model=SEER, messages=question, temperature=0)
    assert "red circle" in (answer.choices[0].message.content or "").lower()


@pytest.mark.usefixtures("user")
def test_speech_is_transcribed(client: openai.OpenAI, samples: Path) -> None:
    clip = samples / "audio/five-nine-eight.wav"
    assert client.audio.transcriptions.create(model=HEARER, file=clip).text.split(), "nothing was heard"


@pytest.mark.usefixtures("user")
def test_the_registry_tells_of_a_model_and_keeps_it_while_a_worker_has_it() -> None:
    told = httpx.get(f"{REGISTRY}/models/{HEARER}").json()
    assert told["id"] == HEARER
    assert httpx.delete(f"{REGISTRY}/models/{HEARER}").status_code == 401
    assert httpx.delete(f"{REGISTRY}/models/{HEARER}", headers=ADMIN).status_code == 409


def test_addresses_of_the_users_chat_ui_lead_to_workers(user: Checkout) -> None:
    # As Chat UI does, on the network that it shares with the gateway.
    for address in CHAT_UI_ADDRESSES:
        code = f"import urllib.request as u; print(u.urlopen('{address}/models').read().decode())"
        listed = json.loads(user.shell(f'docker compose exec -T gateway python -c "{code}"'))
        assert [m["id"] for m in listed["data"]] == [PRIMARY if "llm" in address else SEER]


def test_programs_run_as_an_ordinary_user(user: Checkout) -> None:
    for service in ("gateway", "registry", "service-registry", "llm-primary"):
        form = "-f docker-compose.gpu-cluster.yml"
        assert user.shell(f"docker compose {form} exec -T {service} id -u").strip() == "10001", service


def test_when_the_first_model_is_killed_the_second_answers_and_is_named(user: Checkout) -> None:
    assert asked(user) == (PRIMARY, PRIMARY)
    user.shell(f"docker kill {containers()['llm-primary']}")
    assert asked(user) == (SECONDARY, SECONDARY)
    wait_until("it is seen", lambda: verdicts()["llm-primary"] == "unhealthy", timeout_s=20)
    assert asked(user) == (SECONDARY, SECONDARY)
    user.types("cluster up")
    wait_for_worker("llm-primary")
    assert asked(user) == (PRIMARY, PRIMARY)


def test_who_asks_for_the_killed_model_by_name_is_not_given_another(
    user: Checkout, client: openai.OpenAI
) -> None:
    user.shell(f"docker kill {containers()['llm-secondary']}")
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client, SECONDARY)
    assert refused.value.status_code in (502, 503)
    assert "Paris" in ask(client, PRIMARY)
    user.types("cluster up")
    wait_for_worker("llm-secondary")


def test_a_rolling_restart_loses_no_request_that_leaves_the_model_open(
    user: Checkout, client: openai.OpenAI
) -> None:
    with asking_all_the_time(client, None) as answers:
        for service in ("llm-primary", "llm-secondary"):
            user.shell(f"docker compose -f docker-compose.gpu-cluster.yml restart {service}")
            wait_for_worker(service)
    assert len(answers) > 10
    assert [answer for answer in answers if "Paris" not in answer] == []


def test_a_worker_that_is_told_to_stop_finishes_what_it_has_begun(user: Checkout) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 400}
    body["logit_bias"] = endless("chat")
    form = "docker compose -f docker-compose.gpu-cluster.yml"
    with (
        httpx.stream("POST", "http://localhost:8000/v1/chat/completions", json=body, timeout=60) as answer,
        ThreadPoolExecutor(1) as pool,
    ):
        lines = answer.iter_lines()
        next(lines)
        stopping = pool.submit(user.shell, f"{form} stop llm-primary")
        assert [line for line in lines if line][-1] == "data: [DONE]"
        stopping.result()
