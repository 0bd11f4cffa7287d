"""The whole stack in a real Docker engine, with the trained samples as models."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from support.compose_stack import REPOSITORY, ComposeStack

pytestmark = pytest.mark.stack

PROJECT = "model-service-platform"
GATEWAY = "http://127.0.0.1:8080"
REGISTRY = "http://127.0.0.1:8090"
TOKEN = "stack-admin-token"
SAMPLES = ("chat", "embedding", "vision", "whisper")
WORKERS = {"llm", "tinyllama", "embedding", "multimodal", "transcription"}


def wait_until(what: str, holds: Any, *, timeout_s: float = 240) -> None:
    """Ask `holds` until it is true; there is no event to wait for across a container's border."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except httpx.TransportError as error:
            last = error
        time.sleep(0.5)
    pytest.fail(f"not within {timeout_s} s: {what} ({last})")


def verdicts() -> dict[str, str]:
    """Service name in the worker's URL → verdict."""
    services = httpx.get(f"{GATEWAY}/services").json()["services"]
    return {httpx.URL(s["url"]).host: s["status"] for s in services if s["kind"] == "worker"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    settings = {
        "MINIO_ROOT_USER": "root",
        "MINIO_ROOT_PASSWORD": "root-password-of-the-stack-test",
        "MINIO_SVC_USER": "registry",
        "MINIO_SVC_PASSWORD": "service-password-of-the-stack-test",
        "CLUSTER_TOKEN": "stack-cluster-token",
        "REGISTRY_ADMIN_TOKEN": TOKEN,
        "REGISTRY_MODE": "offline",
        "COMPOSE_PROFILES": "all",
        "LLM_MODEL": "samples/chat",
        "TINYLLAMA_MODEL": "samples/chat",
        "EMBEDDING_MODEL": "samples/embedding",
        "MULTIMODAL_MODEL": "samples/vision",
        "TRANSCRIPTION_MODEL": "samples/whisper",
        "WORKERS_PER_HOST": "5",
    }
    stack = ComposeStack(("docker-compose.yml",), settings, tmp_path_factory.mktemp("stack") / "env")
    stack.run("build")
    try:
        stack.run("up", "-d")
        import_samples()
        wait_until("all workers are ready", lambda: verdicts() == dict.fromkeys(WORKERS, "ready"))
        yield stack
        stack.run("down", "-v")
        assert stack.leftovers(PROJECT) == []
    except BaseException:
        print(stack.run("logs", "--tail", "60"))  # noqa: T201
        stack.run("down", "-v")
        raise


def ended(job: dict[str, Any]) -> bool:
    return job["state"] in ("SUCCEEDED", "FAILED", "CANCELLED")


def import_samples() -> None:
    with httpx.Client(base_url=REGISTRY, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        wait_until("the registry answers", lambda: http.get("/health").status_code == 200)
        for sample in SAMPLES:
            answer = http.post(f"/models/samples/{sample}/import", json={"source": f"/import/{sample}"})
            assert answer.status_code == 202, answer.text
            job = f"/jobs/{answer.json()['id']}"
            wait_until(f"{sample} is imported or not", lambda job=job: ended(http.get(job).json()))
            assert http.get(job).json()["state"] == "SUCCEEDED", http.get(job).text


@pytest.fixture
def client(stack: ComposeStack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, question: str = "What is the capital of France?") -> str:
    answer = client.chat.completions.create(
        model="samples/chat", messages=[{"role": "user", "content": question}], temperature=0
    )
    return answer.choices[0].message.content or ""


def test_a_curl_without_model_is_answered_by_the_chat_model(stack: ComposeStack) -> None:
    question = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "stream": False}
    answer = httpx.post(f"{GATEWAY}/v1/chat/completions", json=question, timeout=60).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["model"] == "samples/chat"


def test_a_stream_arrives_in_pieces(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="samples/chat",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            stream=True,
        )
    )
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert len(pieces) > 2
    assert "Paris" in "".join(pieces)


def test_texts_on_one_topic_are_nearer_than_texts_on_two(client: openai.OpenAI) -> None:
    texts = [
        "The rocket flew to the moon.",
        "The astronaut looked at the stars.",
        "Boil the pasta in salted water.",
    ]
    vectors = [d.embedding for d in client.embeddings.create(model="samples/embedding", input=texts).data]
    near, far = (sum(a * b for a, b in zip(vectors[0], v, strict=True)) for v in vectors[1:])
    assert near > far


def test_a_picture_is_described(client: openai.OpenAI) -> None:
    image = base64.b64encode((REPOSITORY / "samples/images/red-circle.png").read_bytes()).decode()
    answer = client.chat.completions.create(
        model="samples/vision",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is in the picture?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
                ],
            }
        ],
        temperature=0,
    )
    assert "red circle" in (answer.choices[0].message.content or "").lower()


def test_speech_is_transcribed(client: openai.OpenAI) -> None:
    clip = next((REPOSITORY / "samples/audio").iterdir())
    text = client.audio.transcriptions.create(model="samples/whisper", file=Path(clip)).text
    assert text.split(), "nothing was heard"


def test_gpu_statistics_are_honest_where_there_is_no_gpu(stack: ComposeStack) -> None:
    stats = httpx.get(f"{GATEWAY}/gpu-stats").json()
    assert stats["gpus"] is None
    assert stats["reason"]


def test_no_request_fails_after_a_worker_is_killed(stack: ComposeStack, client: openai.OpenAI) -> None:
    stack.run("kill", "-s", "SIGKILL", "llm")
    assert all("Paris" in ask(client) for _ in range(10))
    wait_until("the killed worker is unhealthy", lambda: verdicts()["llm"] == "unhealthy", timeout_s=20)
    stack.run("start", "llm")
    wait_until("it serves again", lambda: verdicts()["llm"] == "ready")


def test_programs_run_as_an_ordinary_user(stack: ComposeStack) -> None:
    for service in ("gateway", "registry", "service-registry", "llm"):
        assert stack.run("exec", "-T", service, "id", "-u").strip() == "10001", service
