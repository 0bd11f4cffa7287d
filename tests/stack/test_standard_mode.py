"""Standard mode as the user's documents start it, line by line, in a clone with the shipped files.

The tests are one session at the keyboard, in order. A hub that has the trained samples under the names of the
models stands for Hugging Face's; Chat UI and Mongo have stand-ins.
"""

import json
from collections.abc import Iterator

import httpx
import openai
import pytest

from support.compose_checkout import Checkout
from support.compose_hub import hub_of_samples
from support.compose_questions import ask, asking_all_the_time
from support.compose_standins import CHAT_UI, MONGO, named_in_the_compose_file
from support.compose_waiting import (
    GATEWAY,
    REGISTRY,
    containers,
    leftovers,
    verdicts,
    volumes,
    wait_for_job,
    wait_for_model,
    wait_for_worker,
    wait_for_workers,
    wait_until,
)

pytestmark = pytest.mark.stack

QWEN, MINILM = "Qwen/Qwen2.5-0.5B-Instruct", "sentence-transformers/all-MiniLM-L6-v2"
CHAT_UI_SETTINGS = "http://localhost:3000/settings"


@pytest.fixture(scope="module")
def user(checkout: Checkout) -> Iterator[Checkout]:
    """A user after the quick start: `.env` copied and edited, and one command."""
    with hub_of_samples() as address:
        checkout.types("env")
        checkout.sets(
            MINIO_ROOT_PASSWORD="root-password-of-mine", MINIO_SVC_PASSWORD="service-password-of-mine"
        )
        checkout.sets(HF_ENDPOINT=address)
        # The first start builds where there are no images yet; those that are here may be of older code.
        checkout.shell("docker compose build")
        checkout.types("standard up")
        wait_for_workers("llm", "embedding")
        yield checkout
        # compose leaves what it built for the added model: under a name of its own, it would stay for ever.
        checkout.shell("docker image rm --no-prune model-service-platform-my-new-model")


def test_one_command_starts_it_and_workers_bring_their_models_from_the_hub(user: Checkout) -> None:
    assert {m["id"] for m in json.loads(user.types("models"))["models"]} == {QWEN, MINILM}


def test_health_and_services_answer_as_written(user: Checkout) -> None:
    assert json.loads(user.types("gateway health"))["status"] == "ok"
    assert json.loads(user.types("registry health"))["status"] == "ok"
    assert json.loads(user.types("worker health"))["status"] == "ok"
    kinds = {s["kind"] for s in json.loads(user.types("services"))["services"]}
    assert "worker" in kinds
    assert [m["id"] for m in json.loads(user.types("worker models"))["data"]] == [QWEN]
    assert json.loads(user.types("chat"))["model"] == QWEN


def test_a_folder_of_this_host_is_imported_as_a_model_and_removed_again(user: Checkout) -> None:
    answer = httpx.post(f"{REGISTRY}/models/samples/chat/import", json={"source": "/import/chat"})
    assert answer.status_code == 202, answer.text
    wait_for_job(f"{REGISTRY}/jobs/{answer.json()['id']}")
    model = f"{REGISTRY}/models/samples/chat"
    assert httpx.get(model).json()["id"] == "samples/chat"
    assert httpx.delete(model).is_success
    assert httpx.get(model).status_code == 404


def test_every_page_of_documentation_is_there(user: Checkout) -> None:
    for port in (8000, 8080, 8090):
        page = httpx.get(f"http://localhost:{port}/docs", follow_redirects=True)
        assert page.status_code == 200, port
        assert "text/html" in page.headers["content-type"], port


def test_logs_and_states_are_shown(user: Checkout) -> None:
    assert user.follows("logs", until="gateway")
    assert user.follows("logs of the registry", until=QWEN)
    assert user.follows("logs of the gateway", until="{")
    assert user.follows("logs of a worker", until=QWEN)
    assert QWEN in user.types("logs so far")
    assert "gateway" in user.sees("logs by container")
    assert "model-gateway" in user.types("docker ps")
    assert "NAME" in user.follows("docker stats", until="model-gateway")
    assert "registry" in user.types("ps")
    assert "(healthy)" in user.types("ps minio")


@pytest.mark.usefixtures("stand_ins")
def test_chat_ui_comes_on_top_and_leaves_the_rest_alone(user: Checkout) -> None:
    assert named_in_the_compose_file() == {CHAT_UI, MONGO}
    before = containers()
    user.types("chatui env")
    user.types("chatui up")
    after = containers()
    assert before.items() <= after.items()
    assert after.keys() - before.keys() == {"chatui", "mongo"}
    wait_until("Chat UI answers", lambda: httpx.get(CHAT_UI_SETTINGS).status_code == 200)
    (model,) = httpx.get(CHAT_UI_SETTINGS).json()
    (endpoint,) = model["endpoints"]
    inside = "docker compose -f docker-compose.yml -f docker-compose.chatui.yml exec -T chatui wget -q -O-"
    listed = json.loads(user.shell(f"{inside} {endpoint['baseURL']}/models"))["data"]
    assert model["name"] in {m["id"] for m in listed}
    assert json.loads(user.shell(f"{inside} http://llm:8000/v1/models"))["data"][0]["id"] == QWEN


@pytest.mark.usefixtures("stand_ins")
def test_a_change_of_chat_uis_models_is_there_after_its_restart(user: Checkout) -> None:
    assert "chatui" in containers(), "the test before this one starts it"
    user.edits("chatui.env", r"^MODELS=.*$", 'MODELS=[{"name":"qwen","displayName":"Mine"}]')
    user.types("chatui restart")
    wait_until("Chat UI answers", lambda: httpx.get(CHAT_UI_SETTINGS).status_code == 200)
    assert httpx.get(CHAT_UI_SETTINGS).json() == [{"name": "qwen", "displayName": "Mine"}]


def test_changed_code_runs_after_its_service_was_rebuilt(user: Checkout) -> None:
    modules = {"gateway": "gateway/src/msp_gateway", "llm": "model-service/src/msp_model_service"}
    files = {service: user.folder / module / "__init__.py" for service, module in modules.items()}
    before = {file: file.read_text() for file in files.values()}
    others = {name: id_ for name, id_ in containers().items() if name in ("minio", "registry", "embedding")}
    try:
        for file in files.values():
            file.write_text('"""Changed by the user."""\n')
        user.types("rebuild one")
        user.types("rebuild a worker")
        for service, module in modules.items():
            package = module.rpartition("/")[2]
            code = f"import {package}; print({package}.__doc__)"
            shown = user.shell(f'docker compose exec -T {service} python -c "{code}"')
            assert shown.strip() == "Changed by the user.", service
        assert others.items() <= containers().items()
    finally:
        for file, text in before.items():
            file.write_text(text)
        # The images are everybody's; containers are made anew by the next test.
        user.shell("docker compose build")


def test_a_model_is_added_in_five_lines(user: Checkout, client: openai.OpenAI) -> None:
    user.adds_the_new_model()
    user.types("rebuild all")
    wait_for_model("huggingface/my-model")
    assert "Paris" in ask(client, "huggingface/my-model")
    listed = json.loads(user.shell("curl http://localhost:8005/v1/models"))["data"]
    assert [m["id"] for m in listed] == ["huggingface/my-model"]


def test_no_request_fails_when_one_of_two_replicas_is_killed(user: Checkout, client: openai.OpenAI) -> None:
    user.sets(COMPOSE_PROFILES="tinyllama", TINYLLAMA_MODEL=QWEN)
    user.types("standard up")
    wait_for_worker("tinyllama")
    user.shell("docker compose kill -s SIGKILL llm")
    assert all("Paris" in ask(client, QWEN) for _ in range(10))
    wait_until("the killed worker is unhealthy", lambda: verdicts()["llm"] == "unhealthy", timeout_s=20)
    user.types("standard up")
    wait_for_worker("llm")


def test_a_rolling_restart_of_all_replicas_loses_no_request(user: Checkout, client: openai.OpenAI) -> None:
    with asking_all_the_time(client, QWEN) as answers:
        for service in ("llm", "tinyllama"):
            user.shell(f"docker compose restart {service}")
            wait_for_worker(service)
    assert len(answers) > 10
    assert [answer for answer in answers if "Paris" not in answer] == []


def test_down_keeps_the_models_and_down_v_leaves_nothing(user: Checkout) -> None:
    user.types("chatui down")
    assert containers() == {}
    kept = volumes()
    assert "model-service-platform_minio-data" in kept
    user.types("standard up")
    models = httpx.get(f"{REGISTRY}/models").json()["models"]
    assert {QWEN, MINILM, "huggingface/my-model"} == {m["id"] for m in models}
    user.types("standard down")
    assert containers() == {}
    assert volumes() == kept
    user.types("standard down -v")
    # People's conversations belong to the other file, and go with it alone.
    assert volumes() == {"model-service-platform_mongo-data"}
    user.shell("docker compose -f docker-compose.yml -f docker-compose.chatui.yml down -v")
    assert leftovers() == []
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{GATEWAY}/health")
